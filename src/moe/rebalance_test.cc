#include "moe/rebalance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace moiety::moe {
namespace {

constexpr int kOneKind[] = {0};

std::vector<int> counts(const Placement& placement) {
  std::vector<int> counts;
  for (int rank = 0; rank < placement.num_ranks(); ++rank) counts.push_back(placement.count(rank));
  return counts;
}

// By all ways to give each rank as many experts as it has.
int64_t least_possible(std::span<const int64_t> visits_E, const Placement& placement) {
  std::vector<int> owner_E(placement.owners().begin(), placement.owners().end());
  std::ranges::sort(owner_E);
  int64_t least = std::numeric_limits<int64_t>::max();
  do {
    least = std::min(least, std::ranges::max(visits_by_rank(visits_E, {owner_E, placement.num_ranks()})));
  } while (std::ranges::next_permutation(owner_E).found);
  return least;
}

TEST(Rebalance, HotNeighboursAreParted) {
  const std::vector<int64_t> visits_E{90, 80, 10, 20};
  const Homes homes = rebalanced(visits_E, spread_evenly(4, 2), kOneKind, {});
  EXPECT_EQ(homes.placement, Placement({1, 0, 1, 0}, 2));  // 90 for 20, as good as 80 for 10, and the first
  EXPECT_EQ(homes.swaps, 1);
  EXPECT_EQ(homes.slowest_before, 170);
  EXPECT_EQ(homes.slowest_after, 100);
}

TEST(Rebalance, AMoveMustPay) {
  const std::vector<int64_t> visits_E{90, 80, 10, 20};
  EXPECT_EQ(rebalanced(visits_E, spread_evenly(4, 2), kOneKind, {.swap = 69}).swaps, 1);
  EXPECT_EQ(rebalanced(visits_E, spread_evenly(4, 2), kOneKind, {.swap = 70}).swaps, 0);
  // 1 of 101 visits less may be chance.
  EXPECT_EQ(rebalanced(std::vector<int64_t>{51, 50, 50, 49}, spread_evenly(4, 2), kOneKind, {}).swaps, 0);
  EXPECT_EQ(rebalanced(std::vector<int64_t>{51, 50, 50, 49}, spread_evenly(4, 2), kOneKind, {.noise = 0}).swaps, 1);
}

// One swap lowers only one of two slowest ranks, two swaps both.
TEST(Rebalance, SwapsMayPayTogether) {
  const std::vector<int64_t> visits_E{50, 50, 50, 50, 0, 0, 0, 0};
  const Homes homes = rebalanced(visits_E, spread_evenly(8, 4), kOneKind, {.swap = 20});
  EXPECT_EQ(homes.swaps, 2);
  EXPECT_EQ(homes.slowest_after, 50);
  EXPECT_EQ(rebalanced(visits_E, spread_evenly(8, 4), kOneKind, {.swap = 25}).swaps, 0);
}

TEST(Rebalance, KindsStayApart) {
  const std::vector<int64_t> visits_E{90, 80, 10, 70, 60, 50};
  const Placement placement({0, 0, 1, 0, 1, 1}, 2);
  const int kinds_K[] = {0, 3};
  const Homes homes = rebalanced(visits_E, placement, kinds_K, {.noise = 0});
  ASSERT_GT(homes.swaps, 0);
  for (int rank = 0; rank < 2; ++rank) {
    const auto of_first_kind = [](std::span<const int> experts) { return std::ranges::count_if(experts, [](int expert) { return expert < 3; }); };
    EXPECT_EQ(of_first_kind(homes.placement.experts(rank)), of_first_kind(placement.experts(rank)));
  }
}

TEST(Rebalance, NeverSlowerAndEachRankKeepsItsNumber) {
  Random random(6);
  int moved = 0;
  double found = 0, possible = 0;
  for (int i = 0; i < 400; ++i) {
    const int ranks = 1 + static_cast<int>(random.below(4)), experts = 1 + static_cast<int>(random.below(9));
    std::vector<int> owner_E(static_cast<size_t>(experts));
    for (int& owner : owner_E) owner = static_cast<int>(random.below(static_cast<uint64_t>(ranks)));
    const Placement placement(owner_E, ranks);
    std::vector<int64_t> visits_E(static_cast<size_t>(experts));
    const double skew = 6 * random.uniform();
    for (int64_t& visits : visits_E) visits = static_cast<int64_t>(1000 * std::pow(random.uniform(), skew));
    const MoveCosts costs{.swap = random.below(2) == 0 ? 0 : 200 * random.uniform(), .noise = random.below(2) == 0 ? 0 : 0.02};
    const Homes homes = rebalanced(visits_E, placement, kOneKind, costs);

    EXPECT_EQ(counts(homes.placement), counts(placement));
    EXPECT_EQ(homes.slowest_before, std::ranges::max(visits_by_rank(visits_E, placement)));
    EXPECT_EQ(homes.slowest_after, std::ranges::max(visits_by_rank(visits_E, homes.placement)));
    EXPECT_LE(homes.slowest_after, homes.slowest_before);
    int changed = 0;
    for (int expert = 0; expert < experts; ++expert) changed += homes.placement.owner(expert) != placement.owner(expert);
    EXPECT_LE(changed, 2 * homes.swaps);
    EXPECT_EQ(homes.swaps == 0, homes.placement == placement);
    if (homes.swaps > 0) {
      EXPECT_GT(static_cast<double>(homes.slowest_before - homes.slowest_after), homes.swaps * costs.swap);
    }
    EXPECT_EQ(rebalanced(visits_E, placement, kOneKind, costs).placement, homes.placement);
    moved += homes.swaps > 0;
    if (costs.swap > 0 || costs.noise > 0) continue;
    EXPECT_EQ(rebalanced(visits_E, homes.placement, kOneKind, costs).swaps, 0);
    const int64_t least = least_possible(visits_E, placement);
    EXPECT_GE(homes.slowest_after, least);
    found += static_cast<double>(homes.slowest_after);
    possible += static_cast<double>(least);
  }
  EXPECT_GT(moved, 100);
  EXPECT_LT(found, 1.05 * possible);
}

}  // namespace
}  // namespace moiety::moe
