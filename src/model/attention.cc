#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/elementwise.h"

namespace moiety::model {
namespace {

using spec::AttentionSpec;
using spec::QkNorm;
using spec::RopePairs;

// Tokens of one head that one task handles.
constexpr size_t kTokensPerTask = 16;

// Cosines and sines of one position, [head_dim / 2] each, in the float arithmetic of the reference implementations.
struct Rotation {
  std::vector<float> cos, sin;
};

Rotation rotation_at(const AttentionSpec& spec, size_t position) {
  const size_t half = static_cast<size_t>(spec.head_dim) / 2;
  Rotation rotation{std::vector<float>(half), std::vector<float>(half)};
  for (size_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(spec.head_dim);
    const float angle = static_cast<float>(position) * (1.0f / std::pow(spec.rope_theta, exponent));
    rotation.cos[i] = std::cos(angle);
    rotation.sin[i] = std::sin(angle);
  }
  return rotation;
}

void rotate(RopePairs pairs, const Rotation& rotation, std::span<float> head) {
  const size_t half = head.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    float& a = pairs == RopePairs::Halves ? head[i] : head[2 * i];
    float& b = pairs == RopePairs::Halves ? head[i + half] : head[2 * i + 1];
    const float x = a, y = b;
    a = x * rotation.cos[i] - y * rotation.sin[i];
    b = y * rotation.cos[i] + x * rotation.sin[i];
  }
}

// Bias, clip and norm of one token's queries or keys.
void finish_projection(const AttentionSpec& spec, float eps, std::span<const float> bias, std::span<const float> norm,
                       std::span<float> row) {
  for (size_t i = 0; i < bias.size(); ++i) row[i] += bias[i];
  if (spec.qk_norm == QkNorm::Whole && !norm.empty()) rms_norm(row, norm, eps, row);
  if (spec.clip_qkv > 0) {
    for (float& x : row) x = std::clamp(x, -spec.clip_qkv, spec.clip_qkv);
  }
  if (spec.qk_norm == QkNorm::PerHead && !norm.empty()) {
    for (size_t at = 0; at < row.size(); at += norm.size()) {
      rms_norm(row.subspan(at, norm.size()), norm, eps, row.subspan(at, norm.size()));
    }
  }
}

// softmax(q K^T / sqrt(d)) V of one head at one position, over the positions it may see.
void attend(const kernel::Kernels& kernels, const AttentionSpec& spec, std::span<const float> query, size_t position,
            MatrixView<const float> keys, MatrixView<const float> values, std::vector<float>& scores,
            std::span<float> out) {
  const size_t window = spec.sliding_window > 0 ? static_cast<size_t>(spec.sliding_window) : position + 1;
  const size_t first = position + 1 > window ? position + 1 - window : 0;
  const size_t count = position + 1 - first;
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));

  scores.resize(count);
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t j = 0; j < count; ++j) {
    scores[j] = scale * kernels.dot(query.data(), keys.row(first + j).data(), query.size());
    largest = std::max(largest, scores[j]);
  }
  float sum = 0;
  for (float& score : scores) sum += score = std::exp(score - largest);

  std::fill(out.begin(), out.end(), 0.0f);
  for (size_t j = 0; j < count; ++j) {
    kernels.add_scaled(scores[j] / sum, values.row(first + j).data(), out.data(), out.size());
  }
}

}  // namespace

Matrix<float> attention(const kernel::Compute& compute, const AttentionSpec& spec, float norm_eps,
                        const AttentionWeights& weights, int layer, MatrixView<const float> x_TD,
                        std::span<const Chunk> chunks) {
  const size_t tokens = x_TD.rows(), head_dim = static_cast<size_t>(spec.head_dim);
  const size_t heads = static_cast<size_t>(spec.num_heads), kv_heads = static_cast<size_t>(spec.num_kv_heads);

  // Queries, keys, values
  Matrix<float> query(tokens, heads * head_dim), key(tokens, kv_heads * head_dim), value(tokens, kv_heads * head_dim);
  kernel::linear(compute, x_TD, weights.query, query.view());
  kernel::linear(compute, x_TD, weights.key, key.view());
  kernel::linear(compute, x_TD, weights.value, value.view());

  // Which sequence and position each row is
  std::vector<KvCache*> cache_T;
  std::vector<size_t> position_T;
  for (const Chunk& chunk : chunks) {
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      cache_T.push_back(chunk.cache);
      position_T.push_back(chunk.cache->length() + i);
    }
  }

  // Norms, rotation, into the cache
  compute.threads.parallel_for(tokens, [&](size_t t) {
    finish_projection(spec, norm_eps, weights.query_bias, weights.query_norm, query.row(t));
    finish_projection(spec, norm_eps, weights.key_bias, weights.key_norm, key.row(t));
    finish_projection(spec, norm_eps, weights.value_bias, {}, value.row(t));
    const Rotation rotation = rotation_at(spec, position_T[t]);
    for (size_t h = 0; h < heads; ++h) rotate(spec.rope_pairs, rotation, query.row(t).subspan(h * head_dim, head_dim));
    for (size_t h = 0; h < kv_heads; ++h) {
      const auto head = key.row(t).subspan(h * head_dim, head_dim);
      rotate(spec.rope_pairs, rotation, head);
      std::copy(head.begin(), head.end(), cache_T[t]->keys(layer, h).row(position_T[t]).begin());
      const auto head_value = value.row(t).subspan(h * head_dim, head_dim);
      std::copy(head_value.begin(), head_value.end(), cache_T[t]->values(layer, h).row(position_T[t]).begin());
    }
  });

  // Attention
  Matrix<float> mixed(tokens, heads * head_dim);
  const size_t blocks = (tokens + kTokensPerTask - 1) / kTokensPerTask;
  compute.threads.parallel_for(blocks * heads, [&](size_t task) {
    const size_t head = task % heads, first = task / heads * kTokensPerTask;
    const size_t kv_head = head / (heads / kv_heads);
    std::vector<float> scores;
    for (size_t t = first; t < std::min(tokens, first + kTokensPerTask); ++t) {
      attend(compute.kernels, spec, query.row(t).subspan(head * head_dim, head_dim), position_T[t],
             cache_T[t]->keys(layer, kv_head), cache_T[t]->values(layer, kv_head), scores,
             mixed.row(t).subspan(head * head_dim, head_dim));
    }
  });

  Matrix<float> out_TD(tokens, x_TD.cols());
  kernel::linear(compute, mixed.view(), weights.output, out_TD.view());
  return out_TD;
}

}  // namespace moiety::model
