#include "moe/dispatch_plan.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace moiety::moe {
namespace {

// The visits of each expert by token, with no more than `capacity` of them.
std::vector<std::vector<int32_t>> admitted(const Routing& routing, size_t capacity) {
  std::vector<std::vector<int32_t>> visits_of_E(routing.num_experts);
  for (int32_t visit = 0; visit < routing.num_visits(); ++visit) visits_of_E[routing.experts_N[visit]].push_back(visit);
  const auto heavier = [&](int32_t a, int32_t b) {
    return routing.weights_N[a] != routing.weights_N[b] ? routing.weights_N[a] > routing.weights_N[b] : a < b;
  };
  for (std::vector<int32_t>& visits : visits_of_E) {
    if (visits.size() <= capacity) continue;
    std::ranges::nth_element(visits, visits.begin() + static_cast<ptrdiff_t>(capacity), heavier);
    visits.resize(capacity);
    std::ranges::sort(visits);
  }
  return visits_of_E;
}

}  // namespace

DispatchPlan plan_dispatch(const Routing& routing) {
  const int visits = routing.num_visits();
  DispatchPlan plan;
  plan.begin_E1.assign(routing.num_experts + 1, 0);
  plan.token_of_row_N.resize(visits);
  plan.visit_of_row_N.resize(visits);
  plan.row_of_visit_N.resize(visits);
  plan.first_visit_T1 = routing.begin_T1;

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

DispatchPlan plan_dispatch(const Routing& routing, int capacity) {
  assert(capacity > 0 && routing.weights_N.size() == routing.experts_N.size());
  std::vector<int32_t> token_of_visit_N(routing.experts_N.size());
  for (int t = 0; t < routing.num_tokens(); ++t) {
    std::fill(token_of_visit_N.begin() + routing.begin_T1[t], token_of_visit_N.begin() + routing.begin_T1[t + 1], t);
  }
  DispatchPlan plan;
  plan.begin_E1 = {0};
  plan.first_visit_T1 = routing.begin_T1;
  plan.row_of_visit_N.assign(routing.experts_N.size(), kNoRow);
  for (const std::vector<int32_t>& visits : admitted(routing, static_cast<size_t>(capacity))) {
    for (const int32_t visit : visits) {
      plan.row_of_visit_N[visit] = plan.num_rows();
      plan.token_of_row_N.push_back(token_of_visit_N[visit]);
      plan.visit_of_row_N.push_back(visit);
    }
    plan.begin_E1.push_back(plan.num_rows());
  }
  return plan;
}

int expert_capacity(double factor, int visits, int experts) {
  const double rows = std::ceil(factor * visits / experts);
  return static_cast<int>(std::clamp(rows, 1.0, static_cast<double>(std::numeric_limits<int>::max())));
}

}  // namespace moiety::moe
