#include "moe/borrow_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace moiety::moe {
namespace {

using Experts = std::vector<std::vector<int>>;

Matrix<int64_t> matrix(const std::vector<std::vector<int64_t>>& rows) {
  Matrix<int64_t> m(rows.size(), rows[0].size());
  for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(rows[r], m.row(r).begin());
  return m;
}

// By its definition: who computes a visit, and what of it travels.
std::vector<double> times_by_definition(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowPlan& plan, const BorrowCosts& costs) {
  std::vector<double> time_W(visits_WE.rows());
  for (size_t rank = 0; rank < visits_WE.rows(); ++rank) {
    for (size_t expert = 0; expert < visits_WE.cols(); ++expert) {
      const size_t owner = static_cast<size_t>(placement.owner(static_cast<int>(expert)));
      const double visits = static_cast<double>(visits_WE.row(rank)[expert]);
      const bool borrowed = std::ranges::count(plan.experts_W[rank], static_cast<int>(expert)) > 0;
      time_W[borrowed ? rank : owner] += visits * costs.visit;
      if (owner == rank) continue;
      for (const size_t end : {owner, rank}) time_W[end] += borrowed ? costs.expert : visits * costs.row;
    }
  }
  return time_W;
}

TEST(BorrowPlan, AHotExpertIsLentAndAColdOneIsNot) {
  const Placement placement({0, 0, 1, 1}, 2);
  const Matrix<int64_t> visits_WE = matrix({{50, 5, 2, 2}, {50, 5, 2, 2}});
  EXPECT_EQ(borrow_hot(visits_WE, placement, {.visit = 1, .row = 0.1, .expert = 4}).experts_W, (Experts{{}, {0}}));
  EXPECT_TRUE(borrow_hot(visits_WE, placement, {.visit = 1, .row = 0.1, .expert = 400}).is_empty());
}

TEST(BorrowPlan, AllAreThoseThatTokensVisit) {
  EXPECT_EQ(borrow_all(matrix({{1, 0, 0, 3}, {0, 0, 9, 9}, {1, 1, 1, 1}}), {{0, 2, 2, 2}, 3}).experts_W, (Experts{{3}, {2, 3}, {0}}));
  EXPECT_TRUE(borrow_all(matrix({{1, 0}, {0, 1}}), {{0, 1}, 2}).is_empty());
}

TEST(BorrowPlan, AmongEqualsTheFirst) {
  // Of two hot experts one is enough to be lent, to one of two ranks.
  EXPECT_EQ(borrow_hot(matrix({{0, 0}, {8, 8}, {8, 8}}), {{0, 0}, 3}, {.visit = 1, .row = 0, .expert = 9}).experts_W, (Experts{{}, {}, {}}));
  EXPECT_EQ(borrow_hot(matrix({{0, 0}, {8, 8}, {8, 8}}), {{0, 0}, 3}, {.visit = 1, .row = 0, .expert = 6}).experts_W, (Experts{{}, {0}, {0}}));
}

TEST(BorrowPlan, TheSlowestRankIsNeverSlowerAndNoLoanIsForNothing) {
  Random random(4);
  int lent = 0, faster = 0;
  for (int i = 0; i < 300; ++i) {
    const size_t ranks = 1 + random.below(6), experts = 1 + random.below(12);
    std::vector<int> owner_E(experts);
    for (int& owner : owner_E) owner = static_cast<int>(random.below(ranks));
    const Placement placement(owner_E, static_cast<int>(ranks));
    Matrix<int64_t> visits_WE(ranks, experts);
    for (int64_t& visits : visits_WE.flat()) visits = static_cast<int64_t>(random.below(1 + random.below(40)));
    const BorrowCosts costs{.visit = 1, .row = 2 * random.uniform(), .expert = 30 * random.uniform()};
    const BorrowPlan none{Experts(ranks)}, hot = borrow_hot(visits_WE, placement, costs);
    const auto before = times_by_definition(visits_WE, placement, none, costs), after = times_by_definition(visits_WE, placement, hot, costs);
    const auto predicted = predicted_times(visits_WE, placement, hot, costs);
    for (size_t rank = 0; rank < ranks; ++rank) {
      EXPECT_NEAR(predicted[rank], after[rank], 1e-9 * (1 + after[rank]));
      EXPECT_TRUE(std::ranges::is_sorted(hot.experts_W[rank]));
      for (const int expert : hot.experts_W[rank]) {
        EXPECT_NE(placement.owner(expert), static_cast<int>(rank));
        EXPECT_GT(visits_WE.row(rank)[static_cast<size_t>(expert)], 0);
      }
    }
    EXPECT_LE(std::ranges::max(after), std::ranges::max(before) + 1e-9);
    const auto all = times_by_definition(visits_WE, placement, borrow_all(visits_WE, placement), costs);
    EXPECT_LE(std::ranges::max(after), std::ranges::max(all) + 1e-9);
    lent += !hot.is_empty();
    faster += std::ranges::max(after) < std::ranges::max(before);
    EXPECT_EQ(borrow_hot(visits_WE, placement, costs).experts_W, hot.experts_W);
  }
  EXPECT_GT(lent, 100);
  EXPECT_EQ(lent, faster);
}

}  // namespace
}  // namespace moiety::moe
