#include "moe/dispatch_plan.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/random.h"
#include "moe/receive_budget.h"

namespace moiety::moe {
namespace {

Routing random_routing(uint64_t seed) {
  Random random(seed);
  Routing routing{.num_experts = 1 + static_cast<int>(random.below(9))};
  const int tokens = static_cast<int>(random.below(20));
  for (int t = 0; t < tokens; ++t) {
    const int visits = static_cast<int>(random.below(4));  // ragged: none to three
    for (int k = 0; k < visits; ++k) {
      routing.experts_N.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(routing.num_experts))));
    }
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
  }
  return routing;
}

TEST(DispatchPlan, EveryVisitIsOneRowOfItsExpertAndTheWayBackLeadsHome) {
  rc::check([](uint64_t seed) {
    const Routing routing = random_routing(seed);
    const DispatchPlan plan = plan_dispatch(routing);
    RC_ASSERT(plan.num_rows() == routing.num_visits());
    RC_ASSERT(plan.begin_E1.back() == plan.num_rows());
    for (int t = 0; t < routing.num_tokens(); ++t) {
      for (int visit = routing.begin_T1[t]; visit < routing.begin_T1[t + 1]; ++visit) {
        const int row = plan.row_of_visit_N[visit], expert = routing.experts_N[visit];
        RC_ASSERT(plan.visit_of_row_N[row] == visit);
        RC_ASSERT(plan.token_of_row_N[row] == t);
        RC_ASSERT(plan.begin_E1[expert] <= row && row < plan.begin_E1[expert + 1]);
      }
    }
    for (int e = 0; e < plan.num_experts(); ++e) {
      for (int row = plan.begin_E1[e] + 1; row < plan.begin_E1[e + 1]; ++row) {
        RC_ASSERT(plan.token_of_row_N[row - 1] <= plan.token_of_row_N[row]);
      }
    }
  });
}

Routing random_weighted_routing(uint64_t seed) {
  Routing routing = random_routing(seed);
  Random random(seed, 1);
  // Few levels, so that there are ties.
  for (int n = 0; n < routing.num_visits(); ++n) routing.weights_N.push_back(0.25f * static_cast<float>(random.below(5)));
  return routing;
}

int token_of(const Routing& routing, int visit) {
  return static_cast<int>(std::ranges::upper_bound(routing.begin_T1, visit) - routing.begin_T1.begin()) - 1;
}

// An independent answer: all visits by falling weight, each taken if its expert still has room.
TEST(DispatchPlan, CapacityTurnsAwayTheLightestVisits) {
  rc::check([](uint64_t seed) {
    const Routing routing = random_weighted_routing(seed);
    const int capacity = 1 + static_cast<int>(seed % 5);
    std::vector<int> order(routing.num_visits());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int a, int b) { return routing.weights_N[a] > routing.weights_N[b]; });
    std::vector<int> room(routing.num_experts, capacity);
    std::set<int> taken;
    for (const int visit : order) {
      if (room[routing.experts_N[visit]]-- > 0) taken.insert(visit);
    }

    const DispatchPlan plan = plan_dispatch(routing, capacity);
    RC_ASSERT(plan.num_rows() == static_cast<int>(taken.size()));
    RC_ASSERT(plan.num_dropped() == routing.num_visits() - plan.num_rows());
    for (int visit = 0; visit < routing.num_visits(); ++visit) {
      const int row = plan.row_of_visit_N[visit];
      RC_ASSERT((row != kNoRow) == taken.contains(visit));
      if (row == kNoRow) continue;
      RC_ASSERT(plan.visit_of_row_N[row] == visit);
      RC_ASSERT(plan.token_of_row_N[row] == token_of(routing, visit));
      RC_ASSERT(plan.begin_E1[routing.experts_N[visit]] <= row && row < plan.begin_E1[routing.experts_N[visit] + 1]);
    }
    for (int e = 0; e < plan.num_experts(); ++e) {
      RC_ASSERT(plan.rows_of(e) <= capacity);
      RC_ASSERT(std::is_sorted(plan.visit_of_row_N.begin() + plan.begin_E1[e], plan.visit_of_row_N.begin() + plan.begin_E1[e + 1]));
    }
  });
}

TEST(DispatchPlan, WithRoomForAllNothingIsTurnedAway) {
  rc::check([](uint64_t seed) {
    const Routing routing = random_weighted_routing(seed);
    const DispatchPlan all = plan_dispatch(routing), roomy = plan_dispatch(routing, std::max(1, routing.num_visits()));
    RC_ASSERT(roomy.begin_E1 == all.begin_E1);
    RC_ASSERT(roomy.token_of_row_N == all.token_of_row_N);
    RC_ASSERT(roomy.visit_of_row_N == all.visit_of_row_N);
    RC_ASSERT(roomy.row_of_visit_N == all.row_of_visit_N);
  });
}

TEST(DispatchPlan, CapacityIsTheMeanLoadTimesAFactorRoundedUp) {
  EXPECT_EQ(expert_capacity(1, 64, 8), 8);
  EXPECT_EQ(expert_capacity(1.25, 66, 8), 11);  // 10.3
  EXPECT_EQ(expert_capacity(0.001, 8, 8), 1);
  EXPECT_EQ(expert_capacity(1e300, 8, 8), INT32_MAX);
}

TEST(ReceiveBudget, TheBusiestSetOfNeighboursCounts) {
  const Routing routing{.num_experts = 5, .begin_T1 = {0, 3, 6, 7}, .experts_N = {0, 1, 4, 1, 2, 3, 1}};
  const DispatchPlan plan = plan_dispatch(routing);
  EXPECT_EQ(most_received(plan, 1), 7);
  EXPECT_EQ(most_received(plan, 2), 4);  // experts 0, 1 and 2, 3, 4
  EXPECT_EQ(most_received(plan, 5), 3);
  EXPECT_TRUE(fits({.rows = 4, .sets = 2}, plan));
  EXPECT_FALSE(fits({.rows = 3, .sets = 2}, plan));
  EXPECT_TRUE(fits({}, plan));
}

// However they are routed: as many tokens as are said to fit do.
TEST(ReceiveBudget, TokensThatFitDo) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const int experts = 1 + static_cast<int>(random.below(9)), most = 1 + static_cast<int>(random.below(static_cast<uint64_t>(experts)));
    const ReceiveBudget budget{.rows = 1 + static_cast<int64_t>(random.below(40)), .sets = 1 + static_cast<int>(random.below(static_cast<uint64_t>(experts)))};
    const int64_t tokens = tokens_that_fit(budget, experts, most);
    Routing routing{.num_experts = experts};
    const int first = static_cast<int>(random.below(static_cast<uint64_t>(experts)));
    for (int64_t t = 0; t < tokens; ++t) {  // all want the same neighbours
      for (int k = 0; k < most; ++k) routing.experts_N.push_back((first + k) % experts);
      routing.begin_T1.push_back(routing.num_visits());
    }
    RC_ASSERT(fits(budget, plan_dispatch(routing)));
  });
  EXPECT_EQ(tokens_that_fit({}, 8, 2), INT64_MAX);
}

}  // namespace
}  // namespace moiety::moe
