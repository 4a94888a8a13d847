#include "train/snapshot_plan.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace moiety::train {
namespace {

// Whichever rank is lost, the others keep every number; a rank keeps what it has or is sent, and what is sent is what is expected.
TEST(SnapshotPlan, AnyRankMayBeLost) {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    const size_t ranks = 2 + random.below(4), tensors = 1 + random.below(3);
    std::vector<std::vector<Part>> part_NW(tensors, std::vector<Part>(ranks));
    std::vector<size_t> size_N;
    for (auto& part_W : part_NW) {
      size_t at = 0;
      for (const size_t size = random.below(200'000); at < size;) {
        const size_t length = std::min(size - at, 1 + static_cast<size_t>(random.below(90'000)));
        const size_t owner = random.below(ranks);
        for (size_t rank = 0; rank < ranks; ++rank) {
          if (rank == owner || random.below(2) == 0) part_W[rank].add({at, length});
        }
        at += length;
      }
      size_N.push_back(at);
    }
    std::vector<SnapshotPlan> plan_W;
    for (size_t rank = 0; rank < ranks; ++rank) plan_W.push_back(plan_snapshot(part_NW, static_cast<int>(rank)));
    for (size_t n = 0; n < tensors; ++n) {
      std::vector<int> kept(size_N[n], 0);
      const auto add = [&](const Part& part, std::vector<int>& to) {
        for (const Stretch& stretch : part.stretches()) {
          for (size_t i = stretch.begin; i < stretch.end(); ++i) ++to[i];
        }
      };
      for (size_t rank = 0; rank < ranks; ++rank) {
        std::vector<int> has(size_N[n], 0), own(size_N[n], 0), told(size_N[n], 0), expected(size_N[n], 0), here(size_N[n], 0);
        add(part_NW[n][rank], has);
        add(plan_W[rank].own_N[n], own);
        add(plan_W[rank].to_next_N[n], told);
        add(plan_W[(rank + 1) % ranks].from_previous_N[n], expected);
        EXPECT_EQ(told, expected);
        add(plan_W[rank].own_N[n], here);
        add(plan_W[rank].from_previous_N[n], here);
        for (size_t i = 0; i < has.size(); ++i) {
          ASSERT_LE(own[i], has[i]);
          ASSERT_LE(told[i], own[i]);
          ASSERT_LE(here[i], 1);
          kept[i] += here[i];
        }
      }
      for (const int times : kept) ASSERT_EQ(times, 2);
    }
  }
}

TEST(SnapshotPlan, WhatAllHaveIsKeptInTurn) {
  const std::vector<std::vector<Part>> part_NW{std::vector<Part>(4, Part({{0, 1 << 20}}))};
  for (int rank = 0; rank < 4; ++rank) {
    const SnapshotPlan plan = plan_snapshot(part_NW, rank);
    EXPECT_EQ(plan.own_N[0].size(), size_t{1} << 19);
    EXPECT_EQ(plan.to_next_N[0].size() + plan.from_previous_N[0].size(), 0);
  }
}

TEST(SnapshotPlan, WhoIsAloneKeepsAll) {
  const SnapshotPlan plan = plan_snapshot({{Part({{3, 5}})}}, 0);
  EXPECT_EQ(plan.own_N[0].size(), 5);
  EXPECT_EQ(plan.to_next_N[0].size() + plan.from_previous_N[0].size(), 0);
}

}  // namespace
}  // namespace moiety::train
