// The heart of attention, for every kind of it: each query against the cached keys that it may see.
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/step.h"

namespace moiety::model {

// softmax(scale * q K^T) V of all tokens and heads: queries [T, heads * key dim] -> [T, heads * value dim]. Heads share the
// layer's cached heads evenly. `sinks_H` is empty or has a logit a head that takes part in the softmax and stands for
// nothing (Xiao et al. 2023, "Efficient streaming language models with attention sinks", learnt as in gpt-oss).
Matrix<float> attend(const kernel::Compute& compute, const spec::AttentionSpec& spec, const Step& step, int layer,
                     MatrixView<const float> query, std::span<const float> sinks_H);

}  // namespace moiety::model
