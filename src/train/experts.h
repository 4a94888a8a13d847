// All routed experts of a layer at once, forward and backward: each kind works on its rows, results are weighted and summed back to
// their tokens.
#pragma once

#include <span>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"
#include "train/expert_kind.h"

namespace moiety::train {

// out_TD[t] += sum over the visits of token t of weight * expert(x_TD[t]).
void experts_forward(const LayerExperts& experts, const moe::DispatchPlan& plan, std::span<const float> mix_N,
                     MatrixView<const float> x_TD, MatrixView<float> out_TD);

// Adds to dx_TD and to the weights' gradients, writes the gradient of every mixing weight.
void experts_backward(const LayerExperts& experts, const moe::DispatchPlan& plan, std::span<const float> mix_N,
                      MatrixView<const float> x_TD, MatrixView<const float> dout_TD, MatrixView<float> dx_TD, std::span<float> dmix_N);

}  // namespace moiety::train
