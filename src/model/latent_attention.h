// Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"), absorbed: queries are carried into the latent's space, so
// that what is cached, one small vector a token, is key and value of all heads at once.
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/step.h"
#include "model/weights.h"

namespace moiety::model {

// As attention() does.
Matrix<float> latent_attention(const kernel::Compute& compute, const spec::AttentionSpec& spec, float norm_eps,
                               const AttentionWeights& weights, int layer, MatrixView<const float> x_TD, const Step& step);

}  // namespace moiety::model
