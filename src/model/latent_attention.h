// Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"): what is cached is one small vector a token. It is computed in
// two ways. Absorbed: queries are carried into the latent's space, so that the vector is key and value of all heads at once;
// little is read, but each score costs the latent's whole size. Expanded: keys and values of every head are made of the
// latents of all positions, then it is ordinary attention; that pays where many queries share the making.
//
// The two round differently, so which one is taken must not depend on how a prompt was cut into chunks. It is a property of
// the sequence: in fast arithmetic the tokens of the prompt (KvOptions::prompt) are computed expanded, however many come at
// once, and those after it absorbed; in exact arithmetic all are absorbed.
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
