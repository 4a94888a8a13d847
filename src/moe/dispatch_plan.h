// Which token goes to which expert's batch, and back. Integers only: training, inference, planner and simulator all
// use this one.
#pragma once

#include <cstdint>
#include <vector>

#include "moe/route.h"

namespace moiety::moe {

// What stands for the row of a visit that has none.
inline constexpr int32_t kNoRow = -1;

// Routing transposed: its visits as rows sorted by expert. A row is one token at one expert.
struct DispatchPlan {
  std::vector<int32_t> begin_E1;         // rows of expert e are [begin_E1[e], begin_E1[e + 1])
  std::vector<int32_t> token_of_row_N;   // which token's activations the row holds
  std::vector<int32_t> visit_of_row_N;   // which visit of the Routing it is: its weight is weights_N[this]
  std::vector<int32_t> row_of_visit_N;   // the way back; kNoRow for a visit that capacity turned away
  std::vector<int32_t> first_visit_T1;   // token t's visits are [first_visit_T1[t], first_visit_T1[t + 1])

  int num_experts() const { return static_cast<int>(begin_E1.size()) - 1; }
  int num_rows() const { return static_cast<int>(token_of_row_N.size()); }
  int num_dropped() const { return static_cast<int>(row_of_visit_N.size()) - num_rows(); }
  int rows_of(int expert) const { return begin_E1[expert + 1] - begin_E1[expert]; }
};

// Every visit gets a row. Keeps token order within an expert, so that sums are the same in every run.
DispatchPlan plan_dispatch(const Routing& routing);

// An expert takes at most `capacity` rows and turns away the visits with the smallest mixing weights, ties to the later token:
// what the layer's result loses least by ("batch prioritised routing", Riquelme et al. 2021, "V-MoE"), and no sequence pays
// for its place in the batch, as with Switch's order of tokens. A dropped visit gives nothing; the weights of the others stay
// as they are (Switch, GShard).
DispatchPlan plan_dispatch(const Routing& routing, int capacity);

// Rows an expert may take: ceil(factor * visits / experts), at least one (Fedus et al. 2021, "Switch").
int expert_capacity(double factor, int visits, int experts);

// What was decided for the tokens of one micro-batch at one layer: made once and const ever after. Forward, backward and
// whatever computes the layer again look at this one, so that no choice can flip in between and no load counts twice.
struct LayerPlan {
  Routing routing;        // every visit that was wanted, with its mixing weight
  DispatchPlan dispatch;  // those that have a row
};

}  // namespace moiety::moe
