// Grouped-query attention over the KV cache, with rotary positions (Su et al. 2021, "RoFormer").
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/step.h"
#include "model/weights.h"

namespace moiety::model {

// Returns what attention adds to the residual stream, [T, D], for normed activations x_TD; appends keys and values of
// `layer` to the step's caches, whose length the caller advances after the last layer.
Matrix<float> attention(const kernel::Compute& compute, const spec::AttentionSpec& spec, float norm_eps,
                        const AttentionWeights& weights, int layer, MatrixView<const float> x_TD, const Step& step);

}  // namespace moiety::model
