#include "moe/receive_budget.h"

#include <algorithm>

namespace moiety::moe {

int64_t most_received(const DispatchPlan& plan, int sets) {
  const int64_t experts = plan.num_experts();
  int64_t most = 0;
  for (int64_t s = 0; s < sets; ++s) {
    most = std::max<int64_t>(most, plan.begin_E1[experts * (s + 1) / sets] - plan.begin_E1[experts * s / sets]);
  }
  return most;
}

bool fits(const ReceiveBudget& budget, const DispatchPlan& plan) {
  return budget.rows == 0 || most_received(plan, budget.sets) <= budget.rows;
}

int64_t tokens_that_fit(const ReceiveBudget& budget, int num_experts, int most_experts) {
  if (budget.rows == 0) return INT64_MAX;
  const int largest_set = (num_experts + budget.sets - 1) / budget.sets;
  return budget.rows / std::max(1, std::min(most_experts, largest_set));
}

}  // namespace moiety::moe
