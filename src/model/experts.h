// The fused expert operation: experts of whatever kinds, each on its own tokens.
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/expert_kind.h"

namespace moiety::model {

// RunExperts for experts of any kinds.
void run_experts(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND);

// One feed-forward on all tokens: a dense layer.
Matrix<float> feed_forward(const kernel::Compute& compute, const ExpertWeights& weights, MatrixView<const float> x_TD);

}  // namespace moiety::model
