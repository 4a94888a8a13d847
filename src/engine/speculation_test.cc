#include "engine/speculation.h"

#include <gtest/gtest.h>

namespace moiety::engine {
namespace {

TEST(Drafter, GoesOnAsTheTextDidTheLastTime) {
  Drafter drafter;
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 9, 10, 11, 1, 2, 3};
  EXPECT_EQ(drafter.draft(tokens, 3), (std::vector<int32_t>{4, 5, 6}));
  tokens.push_back(4);
  EXPECT_EQ(drafter.draft(tokens, 4), (std::vector<int32_t>{9, 10, 11, 1}));  // after the last 2 3 4
  tokens.push_back(77);
  EXPECT_TRUE(drafter.draft(tokens, 4).empty());
  EXPECT_TRUE(Drafter().draft(std::vector<int32_t>{1, 2}, 4).empty());
}

TEST(Drafter, ATextThatRepeatsGoesOnRepeating) {
  Drafter drafter;
  EXPECT_EQ(drafter.draft(std::vector<int32_t>{5, 5, 5, 5}, 3), (std::vector<int32_t>{5, 5, 5}));
  Drafter other;
  EXPECT_EQ(other.draft(std::vector<int32_t>{1, 2, 3, 1, 2, 3}, 6), (std::vector<int32_t>{1, 2, 3, 1, 2, 3}));
}

TEST(Drafter, LearnsHowOftenItIsRight) {
  Drafter right, wrong;
  for (int i = 0; i < 50; ++i) {
    right.learn(4, 4);
    wrong.learn(4, 0);
  }
  EXPECT_GT(right.chance(), 0.95);
  EXPECT_LT(wrong.chance(), 0.05);
}

TEST(SpeculationWatch, DraftsWhereTokensMoreAreCheapAndNotWhereEachCostsAsMuchAsAStep) {
  SpeculationWatch cheap, dear;
  for (int i = 0; i < 60; ++i) {
    const size_t tokens = 1 + static_cast<size_t>(i) % 4;
    cheap.saw(tokens, 0.010 + 0.0001 * static_cast<double>(tokens));
    dear.saw(tokens, 0.010 * static_cast<double>(tokens));
  }
  EXPECT_GE(cheap.worth(1, 0.8), 4u);
  EXPECT_EQ(cheap.worth(1, 0.01), 0u);
  EXPECT_EQ(dear.worth(1, 0.8), 0u);
  // Once in a while it is tried again.
  size_t tried = 0;
  for (int i = 0; i < 1000; ++i) tried += dear.worth(1, 0.8) > 0;
  EXPECT_GT(tried, 0u);
  EXPECT_LT(tried, 30u);
}

}  // namespace
}  // namespace moiety::engine
