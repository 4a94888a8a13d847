// What the tokens of a rank send to the ranks that hold the experts they visit: each token once to a rank, with all its visits there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/dispatch_plan.h"
#include "moe/placement.h"

namespace moiety::moe {

// Rows by receiving rank, tokens in their order; a row is a token with its visits at that rank.
struct Shipment {
  std::vector<int32_t> first_row_W1;    // rows to rank w are [first_row_W1[w], first_row_W1[w + 1])
  std::vector<int32_t> token_of_row_R;
  std::vector<int32_t> first_visit_R1;  // its visits among the next two
  std::vector<int32_t> visit_V;         // which visit of the Routing
  std::vector<int32_t> expert_V;        // its number among the receiver's experts

  int rows(int rank) const { return first_row_W1[static_cast<size_t>(rank) + 1] - first_row_W1[static_cast<size_t>(rank)]; }
  int first_visit(int rank) const { return first_visit_R1[static_cast<size_t>(first_row_W1[static_cast<size_t>(rank)])]; }
  int visits(int rank) const { return first_visit(rank + 1) - first_visit(rank); }
};

// Of tokens [first, end); what visits rank `self` or an expert that it has borrowed (ascending) stays out, and so do visits without a row.
Shipment plan_shipment(const LayerPlan& plan, const Placement& placement, int self, int first, int end, std::span<const int> borrowed = {});

// The visits of tokens [first, end) at rank `self`'s own experts, as a routing among these.
struct OwnVisits {
  Routing routing;               // its token 0 is `first`; without weights
  std::vector<int32_t> visit_V;  // which visits of the whole routing they are
};
OwnVisits own_visits(const LayerPlan& plan, const Placement& placement, int self, int first, int end);
// Of these experts, ascending: a routing among them.
OwnVisits visits_to(const LayerPlan& plan, std::span<const int> experts, int first, int end);

// How many visits of the plan, those without a row left out, each expert gets.
std::vector<int64_t> visits_by_expert(const LayerPlan& plan);

}  // namespace moiety::moe
