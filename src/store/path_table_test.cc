#include "store/path_table.h"

#include <gtest/gtest.h>

namespace moiety::store {
namespace {

std::vector<Demand> of(std::initializer_list<int> experts) {
  std::vector<Demand> demands;
  for (const int e : experts) demands.push_back({e, 1, 1});
  return demands;
}

TEST(PathTable, RanksWhatFollowed) {
  const std::vector<size_t> experts_L = {4, 0, 5};
  PathTable table(experts_L);
  EXPECT_TRUE(table.rank(0, of({1}), 2, 3).empty());
  for (int i = 0; i < 3; ++i) table.learn(0, of({1}), 2, of({4}));
  table.learn(0, of({1}), 2, of({0}));
  table.learn(0, of({3}), 2, of({2}));
  EXPECT_EQ(table.rank(0, of({1}), 2, 5), (std::vector<int>{4, 0}));
  EXPECT_EQ(table.rank(0, of({1}), 2, 1), (std::vector<int>{4}));
  EXPECT_EQ(table.rank(0, of({1, 3}), 2, 5), (std::vector<int>{2, 4, 0}));  // surely after 3, three times in four after 1
  EXPECT_TRUE(table.rank(0, of({2}), 2, 5).empty());
}

TEST(PathTable, WhatWasLongAgoFades) {
  const std::vector<size_t> experts_L = {1, 2};
  PathTable table(experts_L);
  for (int i = 0; i < 1500; ++i) table.learn(0, of({0}), 1, of({0}));
  for (int i = 0; i < 1200; ++i) table.learn(0, of({0}), 1, of({1}));
  EXPECT_EQ(table.rank(0, of({0}), 1, 1), (std::vector<int>{1}));
}

}  // namespace
}  // namespace moiety::store
