// Grouped-query attention over the KV cache, with rotary positions (Su et al. 2021, "RoFormer").
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace moiety::model {

// Some next tokens of one sequence: rows [first_row, first_row + tokens) of the step's activations, at the positions that
// follow what the cache holds.
struct Chunk {
  KvCache* cache = nullptr;
  std::span<const int32_t> tokens;
};

// Returns what attention adds to the residual stream, [T, D], for normed activations x_TD; appends keys and values of
// `layer` to the chunks' caches, whose length the caller advances after the last layer.
Matrix<float> attention(const kernel::Compute& compute, const spec::AttentionSpec& spec, float norm_eps,
                        const AttentionWeights& weights, int layer, MatrixView<const float> x_TD,
                        std::span<const Chunk> chunks);

}  // namespace moiety::model
