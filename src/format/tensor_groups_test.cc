#include "format/tensor_groups.h"

#include <gtest/gtest.h>

namespace moiety::format {
namespace {

TensorView tensor(const std::string& name, std::vector<int64_t> shape = {2}, spec::ElementType type = spec::ElementType::F32) {
  static const std::byte kBytes[64] = {};
  return {name, type, std::move(shape), std::span(kBytes).first(8)};
}

std::vector<std::string> names(const std::vector<TensorView>& tensors) {
  std::vector<std::string> out;
  for (const TensorGroup& group : group_tensors(tensors)) out.push_back(group.name);
  return out;
}

TEST(TensorGroups, NumbersInNamesBecomeRanges) {
  const auto groups = group_tensors({tensor("a.0.e.0.w"), tensor("norm"), tensor("a.0.e.1.w"), tensor("a.1.e.0.w"), tensor("a.1.e.1.w")});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].name, "a.[0-1].e.[0-1].w");
  EXPECT_EQ(groups[0].count, 4u);
  EXPECT_EQ(groups[0].bytes, 32u);
  EXPECT_EQ(groups[1].name, "norm");
}

TEST(TensorGroups, ATypeOrAShapeOfItsOwnIsAGroupOfItsOwn) {
  EXPECT_EQ(names({tensor("l.0.w"), tensor("l.1.w", {2}, spec::ElementType::I32), tensor("l.2.w"), tensor("l.3.w", {1, 2}), tensor("l.4.w")}),
            (std::vector<std::string>{"l.[0,2,4].w", "l.1.w", "l.3.w"}));
}

TEST(TensorGroups, ManyRunsAreCutShort) {
  std::vector<TensorView> tensors;
  for (int i = 0; i < 20; i += 2) tensors.push_back(tensor("l." + std::to_string(i)));
  EXPECT_EQ(names(tensors), (std::vector<std::string>{"l.[0,2,4,6,…]"}));
}

TEST(TensorGroups, WhatOnlyLooksLikeANumberIsText) {
  EXPECT_EQ(names({tensor("w1"), tensor("w2"), tensor("99999999999.w"), tensor(""), tensor("."), tensor("7")}),
            (std::vector<std::string>{"w1", "w2", "99999999999.w", "", ".", "7"}));
}

}  // namespace
}  // namespace moiety::format
