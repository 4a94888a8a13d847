#include "moe/dispatch_plan.h"

#include <cassert>

namespace moiety::moe {

DispatchPlan plan_dispatch(const Routing& routing) {
  const int visits = routing.num_visits();
  DispatchPlan plan;
  plan.begin_E1.assign(routing.num_experts + 1, 0);
  plan.token_of_row_N.resize(visits);
  plan.visit_of_row_N.resize(visits);
  plan.row_of_visit_N.resize(visits);
  plan.begin_T1 = routing.begin_T1;

  // Counting sort by expert
  for (const int32_t expert : routing.experts_N) {
    assert(expert >= 0 && expert < routing.num_experts);
    ++plan.begin_E1[expert + 1];
  }
  for (int e = 0; e < routing.num_experts; ++e) plan.begin_E1[e + 1] += plan.begin_E1[e];

  std::vector<int32_t> next_E(plan.begin_E1.begin(), plan.begin_E1.end() - 1);
  for (int t = 0; t < routing.num_tokens(); ++t) {
    for (int visit = routing.begin_T1[t]; visit < routing.begin_T1[t + 1]; ++visit) {
      const int32_t row = next_E[routing.experts_N[visit]]++;
      plan.token_of_row_N[row] = t;
      plan.visit_of_row_N[row] = visit;
      plan.row_of_visit_N[visit] = row;
    }
  }
  return plan;
}

}  // namespace moiety::moe
