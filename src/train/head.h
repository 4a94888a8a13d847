// The last step of the model with its loss: hidden states times the output matrix, cross-entropy against the next
// token. A few hundred tokens at a time, so that the [T, V] logits never exist as a whole; the gradients are made on
// the way.
#pragma once

#include <span>
#include <vector>

#include "base/matrix.h"
#include "train/gemm.h"

namespace moiety::train {

struct CrossEntropy {
  double nats = 0;     // summed
  size_t counted = 0;  // positions with a target
  std::vector<float> nats_T;  // of each position; 0 without a target
};

CrossEntropy cross_entropy(GemmType type, MatrixView<const float> x_TD, const Operand& head_VD,
                           std::span<const int32_t> targets_T);

// Also writes dx_TD and dhead_VD: the gradients of the sum times `factor`.
CrossEntropy cross_entropy_with_gradients(GemmType type, MatrixView<const float> x_TD, const Operand& head_VD,
                                          std::span<const int32_t> targets_T, float factor, MatrixView<float> dx_TD,
                                          MatrixView<float> dhead_VD);

}  // namespace moiety::train
