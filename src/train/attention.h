// Causal self-attention within segments, forward and backward: norms of queries and keys, rotary positions and a softmax, or
// stick-breaking.
// Plain arithmetic on matrices: no torch, no graph.
#pragma once

#include <cmath>
#include <vector>

#include "base/matrix.h"
#include "spec/model_spec.h"
#include "train/batch.h"
#include "train/buffer.h"
#include "train/gemm.h"

namespace moiety::train {

// A row of qkv_TQ holds the queries of all heads, then the keys, then the values of all key-value heads.
struct HeadLayout {
  size_t heads, kv_heads, head_dim;

  size_t query_width() const { return heads * head_dim; }
  size_t key_width() const { return kv_heads * head_dim; }
  size_t width() const { return query_width() + 2 * key_width(); }
};
HeadLayout head_layout(const spec::AttentionSpec& spec);

// Cosines and sines of every position's rotary angles: [positions, head_dim / 2].
struct RotaryTable {
  Matrix<float> cosine, sine;
};
RotaryTable rotary_table(const spec::AttentionSpec& spec, int positions);

struct Ring;  // train/ring_attention.h

struct AttentionWeights {
  std::span<const float> query_norm, key_norm;  // empty without qk_norm
};
struct AttentionWeightGradients {
  std::span<float> query_norm, key_norm;  // added to
};

// What forward leaves for backward, apart from its input and output.
struct AttentionSaved {
  Buffer rotated_TQ;  // queries and keys after norm and rotation
  Buffer log_sum_HT;  // of every softmax; nothing of sticks
};

class Attention {
 public:
  Attention(const spec::AttentionSpec& spec, float norm_eps, const RotaryTable& rotary, GemmType type = GemmType::F32)
      : spec_(spec), layout_(head_layout(spec)), norm_eps_(norm_eps), rotary_(rotary), type_(type) {}

  const HeadLayout& layout() const { return layout_; }

  // With a ring the segments' tokens see those of their documents that its other ranks have, too. Collective then; not with sticks.
  AttentionSaved forward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights, const std::vector<Segment>& segments,
                         MatrixView<float> out_TD, const Ring* ring = nullptr) const;
  // out_TD is what forward() wrote; read with a ring alone.
  void backward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights, const std::vector<Segment>& segments,
                const AttentionSaved& saved, MatrixView<const float> dout_TD, MatrixView<float> dqkv_TQ,
                const AttentionWeightGradients& gradients, MatrixView<const float> out_TD = {}, const Ring* ring = nullptr) const;

 private:
  float score_factor() const { return 1.0f / std::sqrt(static_cast<float>(layout_.head_dim)); }
  void norm_and_rotate(MatrixView<const float> qkv_TQ, const AttentionWeights& weights,
                       const std::vector<Segment>& segments, MatrixView<float> rotated_TQ) const;
  void norm_and_rotate_backward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights,
                                const std::vector<Segment>& segments, MatrixView<float> dqkv_TQ,
                                const AttentionWeightGradients& gradients) const;

  spec::AttentionSpec spec_;
  HeadLayout layout_;
  float norm_eps_;
  const RotaryTable& rotary_;
  GemmType type_;
};

}  // namespace moiety::train
