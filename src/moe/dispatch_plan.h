// Which token goes to which expert's batch, and back. Integers only: training, inference, planner and simulator all
// use this one.
#pragma once

#include <cstdint>
#include <vector>

#include "moe/route.h"

namespace moiety::moe {

// Routing transposed: its N visits as rows sorted by expert. A row is one token at one expert.
struct DispatchPlan {
  std::vector<int32_t> begin_E1;         // rows of expert e are [begin_E1[e], begin_E1[e + 1])
  std::vector<int32_t> token_of_row_N;   // which token's activations the row holds
  std::vector<int32_t> visit_of_row_N;   // which visit of the Routing it is: its weight is weights_N[this]
  std::vector<int32_t> row_of_visit_N;   // the way back
  std::vector<int32_t> begin_T1;         // visits of token t are [begin_T1[t], begin_T1[t + 1]), as in the Routing

  int num_experts() const { return static_cast<int>(begin_E1.size()) - 1; }
  int num_rows() const { return static_cast<int>(token_of_row_N.size()); }
  int rows_of(int expert) const { return begin_E1[expert + 1] - begin_E1[expert]; }
};

// Keeps token order within an expert, so that sums are the same in every run.
DispatchPlan plan_dispatch(const Routing& routing);

}  // namespace moiety::moe
