#include "moe/shipment.h"

#include <algorithm>

namespace moiety::moe {
namespace {

// body(token, visit, expert) for visits of tokens [first, end) that have a row.
template <class Body>
void for_each_visit(const LayerPlan& plan, int first, int end, const Body& body) {
  for (int t = first; t < end; ++t) {
    for (int32_t visit = plan.routing.begin_T1[static_cast<size_t>(t)]; visit < plan.routing.begin_T1[static_cast<size_t>(t) + 1]; ++visit) {
      if (plan.dispatch.row_of_visit_N[static_cast<size_t>(visit)] == kNoRow) continue;
      body(t, visit, plan.routing.experts_N[static_cast<size_t>(visit)]);
    }
  }
}

}  // namespace

Shipment plan_shipment(const LayerPlan& plan, const Placement& placement, int self, int first, int end, std::span<const int> borrowed) {
  struct ToRank {
    std::vector<int32_t> tokens, visits_of_token, visits, experts;
  };
  std::vector<ToRank> to_W(static_cast<size_t>(placement.num_ranks()));
  for_each_visit(plan, first, end, [&](int token, int32_t visit, int32_t expert) {
    const int rank = placement.owner(expert);
    if (rank == self || std::ranges::binary_search(borrowed, expert)) return;
    ToRank& to = to_W[static_cast<size_t>(rank)];
    if (to.tokens.empty() || to.tokens.back() != token) {
      to.tokens.push_back(token);
      to.visits_of_token.push_back(0);
    }
    ++to.visits_of_token.back();
    to.visits.push_back(visit);
    to.experts.push_back(placement.place(expert));
  });

  Shipment shipment{.first_row_W1 = {0}, .first_visit_R1 = {0}};
  const auto append = [](std::vector<int32_t>& all, const std::vector<int32_t>& part) { all.insert(all.end(), part.begin(), part.end()); };
  for (const ToRank& to : to_W) {
    append(shipment.token_of_row_R, to.tokens);
    for (const int32_t visits : to.visits_of_token) shipment.first_visit_R1.push_back(shipment.first_visit_R1.back() + visits);
    append(shipment.visit_V, to.visits);
    append(shipment.expert_V, to.experts);
    shipment.first_row_W1.push_back(static_cast<int32_t>(shipment.token_of_row_R.size()));
  }
  return shipment;
}

OwnVisits own_visits(const LayerPlan& plan, const Placement& placement, int self, int first, int end) {
  return visits_to(plan, placement.experts(self), first, end);
}

OwnVisits visits_to(const LayerPlan& plan, std::span<const int> experts, int first, int end) {
  OwnVisits own{.routing = {.num_experts = static_cast<int>(experts.size())}};
  own.routing.begin_T1.assign(static_cast<size_t>(end - first) + 1, 0);
  for_each_visit(plan, first, end, [&](int token, int32_t visit, int32_t expert) {
    const auto at = std::ranges::lower_bound(experts, expert);
    if (at == experts.end() || *at != expert) return;
    ++own.routing.begin_T1[static_cast<size_t>(token - first) + 1];
    own.routing.experts_N.push_back(static_cast<int32_t>(at - experts.begin()));
    own.visit_V.push_back(visit);
  });
  for (size_t t = 1; t < own.routing.begin_T1.size(); ++t) own.routing.begin_T1[t] += own.routing.begin_T1[t - 1];
  return own;
}

std::vector<int64_t> visits_by_expert(const LayerPlan& plan) {
  std::vector<int64_t> visits_E(static_cast<size_t>(plan.routing.num_experts));
  for_each_visit(plan, 0, plan.routing.num_tokens(), [&](int, int32_t, int32_t expert) { ++visits_E[static_cast<size_t>(expert)]; });
  return visits_E;
}

}  // namespace moiety::moe
