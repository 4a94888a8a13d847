// A router that knows what the one before it said (Jin et al. 2024, "MoE++").
#pragma once

#include <vector>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/weights.h"

namespace moiety::model {

// What routers hand on from one MoE layer to the next, a row a token; empty before the first.
struct RouterState {
  std::vector<float> logits_TC;
};

// Adds the logits of the MoE layer before, times a matrix, to a layer's own, which take their place in `state`.
void add_gating_residual(const kernel::Compute& compute, const MoeWeights& weights, RouterState& state, MatrixView<float> logits_TC);

}  // namespace moiety::model
