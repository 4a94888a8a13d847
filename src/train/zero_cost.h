// Experts that cost nothing, with their gradients: they give their input, or a mix of it and a vector of their own (Jin et al.
// 2024, "MoE++"). Plain arithmetic on matrices: no torch, no graph.
#pragma once

#include <span>

#include "base/matrix.h"
#include "moe/route.h"
#include "train/buffer.h"
#include "train/weights.h"

namespace moiety::train {

// The constant experts' weights, a1 x + a2 v with a = softmax(W x).
struct ConstantWeights {
  WeightMatrix mix;     // [2 * constant experts, D]: the rows of W
  WeightMatrix vector;  // [constant experts, D]
};

// out_TD[t] += mix * expert(x_TD[t]) for all visits. Returns the constant experts' a1, [T, constant experts].
Buffer zero_cost_forward(const spec::RouterRule& rule, const moe::Visits& visits, std::span<const float> mix_M,
                         const ConstantWeights& constants, MatrixView<const float> x_TD, MatrixView<float> out_TD);

// Adds to dx_TD and to the weights' gradients, writes the gradient of every mixing weight.
void zero_cost_backward(const spec::RouterRule& rule, const moe::Visits& visits, std::span<const float> mix_M,
                        const ConstantWeights& constants, MatrixView<const float> x_TD, MatrixView<const float> share_TC,
                        MatrixView<const float> dout_TD, MatrixView<float> dx_TD, std::span<float> dmix_M);

}  // namespace moiety::train
