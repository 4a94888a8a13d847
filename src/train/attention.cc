#include "train/attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"
#include "train/ring_attention.h"

namespace moiety::train {
namespace {

// Queries a block: small enough that a block's scores stay in cache, large enough for the matrix product.
constexpr size_t kBlock = 64;

std::vector<int> positions_of(const std::vector<Segment>& segments, size_t tokens) {
  std::vector<int> position_T(tokens, 0);
  for (const Segment& segment : segments) {
    for (int i = 0; i < segment.length; ++i) position_T[segment.begin + i] = segment.position + i;
  }
  return position_T;
}

// One block of queries of one head, and the keys it may see.
struct Block {
  size_t first, count, keys;  // queries [first, first + count) of the segment see keys [0, keys)
};

template <class Body>
void for_each_block(size_t length, const Body& body) {
  for (size_t first = 0; first < length; first += kBlock) {
    const size_t count = std::min(kBlock, length - first);
    body(Block{first, count, first + count});
  }
}

// Keys or values of one head, which every block of queries reads: packed once, if products are in bf16.
Operand packed_once(GemmType type, MatrixView<const float> rows, Scratch& memory) {
  if (type != GemmType::Bf16) return rows;
  std::byte* const packed = memory.get(packed_bytes(rows.rows(), rows.cols()));
  pack_rows(rows, 0, rows.rows(), packed, kernel::GemmTo::Cache);
  return {rows, {packed, rows.rows(), rows.cols()}};
}

Operand first_rows(const Operand& operand, size_t count) { return {operand.values.middle_rows(0, count), operand.packed}; }

}  // namespace

HeadLayout head_layout(const spec::AttentionSpec& spec) {
  return {static_cast<size_t>(spec.num_heads), static_cast<size_t>(spec.num_kv_heads),
          static_cast<size_t>(spec.head_dim)};
}

RotaryTable rotary_table(const spec::AttentionSpec& spec, int positions) {
  const size_t half = static_cast<size_t>(spec.head_dim) / 2;
  RotaryTable table{Matrix<float>(positions, half), Matrix<float>(positions, half)};
  for (size_t i = 0; i < half; ++i) {
    const double turn = std::pow(static_cast<double>(spec.rope.theta), -2.0 * static_cast<double>(i) / spec.head_dim);
    for (int p = 0; p < positions; ++p) {
      table.cosine.row(p)[i] = static_cast<float>(std::cos(p * turn));
      table.sine.row(p)[i] = static_cast<float>(std::sin(p * turn));
    }
  }
  return table;
}

void Attention::norm_and_rotate(MatrixView<const float> qkv_TQ, const AttentionWeights& weights,
                                const std::vector<Segment>& segments, MatrixView<float> rotated_TQ) const {
  const std::vector<int> position_T = positions_of(segments, qkv_TQ.rows());
  const size_t rotated_width = layout_.query_width() + layout_.key_width();
  const auto norm = [&](std::span<const float> x, std::span<const float> weight, std::span<float> y) {
    for (size_t at = 0; at < x.size(); at += weight.size()) {
      rms_norm(x.subspan(at, weight.size()), weight, norm_eps_, y.subspan(at, weight.size()));
    }
  };
  parallel_ranges(qkv_TQ.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      const auto x = qkv_TQ.row(t).first(rotated_width);
      const auto y = rotated_TQ.row(t);
      if (spec_.qk_norm == spec::QkNorm::None) {
        std::ranges::copy(x, y.begin());
      } else {
        norm(x.first(layout_.query_width()), weights.query_norm, y.first(layout_.query_width()));
        norm(x.subspan(layout_.query_width()), weights.key_norm, y.subspan(layout_.query_width()));
      }
      for (size_t at = 0; spec_.is_rotated() && at < rotated_width; at += layout_.head_dim) {
        rotate_pairs(y.subspan(at, layout_.head_dim), rotary_.cosine.row(position_T[t]),
                     rotary_.sine.row(position_T[t]), 1.0f);
      }
    }
  });
}

// dqkv_TQ comes with the gradients of the rotated queries and keys and leaves with those of what was rotated.
void Attention::norm_and_rotate_backward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights,
                                         const std::vector<Segment>& segments, MatrixView<float> dqkv_TQ,
                                         const AttentionWeightGradients& gradients) const {
  const std::vector<int> position_T = positions_of(segments, qkv_TQ.rows());
  const size_t query_width = layout_.query_width(), rotated_width = query_width + layout_.key_width();
  const size_t query_norms = weights.query_norm.size(), key_norms = weights.key_norm.size();
  Matrix<float> dweights(parallel_parts(), query_norms + key_norms);

  const auto norm = [&](std::span<const float> x, std::span<const float> weight, std::span<float> dx,
                        std::span<float> dweight) {
    const size_t n = weight.size();
    for (size_t at = 0; at < x.size(); at += n) {
      const auto part = x.subspan(at, n);
      const float mean = static_cast<float>(sum_of_squares(part)) / static_cast<float>(n);
      const auto d = dx.subspan(at, n);
      rms_norm_backward(d, part, weight, 1.0f / std::sqrt(mean + norm_eps_), d, dweight);
    }
  };
  parallel_ranges(qkv_TQ.rows(), [&](size_t begin, size_t end, size_t part) {
    for (size_t t = begin; t < end; ++t) {
      const auto x = qkv_TQ.row(t).first(rotated_width);
      const auto d = dqkv_TQ.row(t).first(rotated_width);
      for (size_t at = 0; spec_.is_rotated() && at < rotated_width; at += layout_.head_dim) {
        rotate_pairs(d.subspan(at, layout_.head_dim), rotary_.cosine.row(position_T[t]),
                     rotary_.sine.row(position_T[t]), -1.0f);
      }
      if (spec_.qk_norm == spec::QkNorm::None) continue;
      const auto dweight = dweights.row(part);
      norm(x.first(query_width), weights.query_norm, d.first(query_width), dweight.first(query_norms));
      norm(x.subspan(query_width), weights.key_norm, d.subspan(query_width), dweight.subspan(query_norms));
    }
  });
  if (spec_.qk_norm == spec::QkNorm::None) return;
  for (size_t part = 0; part < dweights.rows(); ++part) {
    add(dweights.row(part).first(query_norms), gradients.query_norm);
    add(dweights.row(part).subspan(query_norms), gradients.key_norm);
  }
}

AttentionSaved Attention::forward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights, const std::vector<Segment>& segments,
                                  MatrixView<float> out_TD, const Ring* ring) const {
  const size_t tokens = qkv_TQ.rows(), head_dim = layout_.head_dim, query_width = layout_.query_width();
  const size_t value_at = query_width + layout_.key_width();
  AttentionSaved saved{Buffer(tokens, value_at), Buffer(layout_.heads, tokens)};
  norm_and_rotate(qkv_TQ, weights, segments, saved.rotated_TQ.view());
  const float factor = score_factor();
  if (ring != nullptr) {
    const auto value_TK = qkv_TQ.middle_cols(value_at, layout_.key_width());
    ring_forward(*ring, {layout_, factor, type_}, std::as_const(saved.rotated_TQ).view(), value_TK, out_TD, saved.log_sum_HT.view());
    return saved;
  }

  const size_t heads_per_kv = layout_.heads / layout_.kv_heads;
  const bool breaks_stick = spec_.weigh == spec::AttentionWeigh::StickBreaking;
  parallel_tasks(segments.size() * layout_.heads, [&](size_t task) {
    const Segment& segment = segments[task / layout_.heads];
    const size_t head = task % layout_.heads, kv = head / heads_per_kv;
    const size_t begin = segment.begin, length = segment.length;
    const MatrixView<const float> rotated = saved.rotated_TQ.view().middle_rows(begin, length);
    const auto query = rotated.middle_cols(head * head_dim, head_dim);
    const auto key = rotated.middle_cols(query_width + kv * head_dim, head_dim);
    const auto value = qkv_TQ.middle_rows(begin, length).middle_cols(value_at + kv * head_dim, head_dim);
    const auto out = out_TD.middle_rows(begin, length).middle_cols(head * head_dim, head_dim);
    const auto log_sum = saved.log_sum_HT.row(head).subspan(begin, length);

    thread_local Scratch key_memory, value_memory;
    const Operand keys = packed_once(type_, key, key_memory), values = packed_once(type_, value, value_memory);
    thread_local std::vector<float> scores, parts;
    scores.resize(kBlock * length);
    parts.resize(length);
    float inverse_sum[kBlock];
    for_each_block(length, [&](const Block& block) {
      const MatrixView<float> p(scores.data(), block.count, block.keys);
      multiply_nt(type_, query.middle_rows(block.first, block.count), first_rows(keys, block.keys), p);
      for (size_t i = 0; i < block.count; ++i) {
        const size_t seen = block.first + i + 1;
        std::ranges::fill(p.row(i).subspan(seen), 0.0f);
        if (breaks_stick) {
          break_stick(factor, p.row(i).first(seen), std::span(parts).first(seen));
          continue;
        }
        const Exponentials row = exponentials(factor, p.row(i).first(seen));
        log_sum[block.first + i] = row.log_sum();
        inverse_sum[i] = 1.0f / row.sum;
      }
      multiply_nn(type_, p, first_rows(values, block.keys), out.middle_rows(block.first, block.count));
      // The division is left to the end: a head has fewer numbers than there are keys.
      for (size_t i = 0; i < block.count && !breaks_stick; ++i) scale(inverse_sum[i], out.row(block.first + i));
    });
  });
  return saved;
}

void Attention::backward(MatrixView<const float> qkv_TQ, const AttentionWeights& weights,
                         const std::vector<Segment>& segments, const AttentionSaved& saved,
                         MatrixView<const float> dout_TD, MatrixView<float> dqkv_TQ, const AttentionWeightGradients& gradients,
                         MatrixView<const float> out_TD, const Ring* ring) const {
  const size_t head_dim = layout_.head_dim, query_width = layout_.query_width();
  const size_t value_at = query_width + layout_.key_width();
  const float factor = score_factor();
  if (ring != nullptr) {
    const size_t key_width = layout_.key_width();
    ring_backward(*ring, {layout_, factor, type_}, saved.rotated_TQ.view(), qkv_TQ.middle_cols(value_at, key_width), out_TD, saved.log_sum_HT.view(),
                  dout_TD, dqkv_TQ.middle_cols(0, value_at), dqkv_TQ.middle_cols(value_at, key_width));
    return norm_and_rotate_backward(qkv_TQ, weights, segments, dqkv_TQ, gradients);
  }
  const size_t heads_per_kv = layout_.heads / layout_.kv_heads;
  const bool breaks_stick = spec_.weigh == spec::AttentionWeigh::StickBreaking;

  // A task is all query heads of one key-value head, since they add to the same gradients.
  parallel_tasks(segments.size() * layout_.kv_heads, [&](size_t task) {
    const Segment& segment = segments[task / layout_.kv_heads];
    const size_t kv = task % layout_.kv_heads;
    const size_t begin = segment.begin, length = segment.length;
    const MatrixView<const float> rotated = saved.rotated_TQ.view().middle_rows(begin, length);
    const auto key = rotated.middle_cols(query_width + kv * head_dim, head_dim);
    const auto value = qkv_TQ.middle_rows(begin, length).middle_cols(value_at + kv * head_dim, head_dim);
    const auto dqkv = dqkv_TQ.middle_rows(begin, length);
    const auto dkey = dqkv.middle_cols(query_width + kv * head_dim, head_dim);
    const auto dvalue = dqkv.middle_cols(value_at + kv * head_dim, head_dim);
    for (size_t i = 0; i < length; ++i) {
      std::ranges::fill(dkey.row(i), 0.0f);
      std::ranges::fill(dvalue.row(i), 0.0f);
    }

    thread_local Scratch key_memory, value_memory;
    const Operand keys = packed_once(type_, key, key_memory), values = packed_once(type_, value, value_memory);
    thread_local std::vector<float> scores, dscores, parts;
    parts.resize(length);
    scores.resize(kBlock * length);
    dscores.resize(kBlock * length);
    for (size_t head = kv * heads_per_kv; head < (kv + 1) * heads_per_kv; ++head) {
      const auto query = rotated.middle_cols(head * head_dim, head_dim);
      const auto dquery = dqkv.middle_cols(head * head_dim, head_dim);
      const auto dout = dout_TD.middle_rows(begin, length).middle_cols(head * head_dim, head_dim);
      const auto log_sum = saved.log_sum_HT.row(head).subspan(begin, length);

      for_each_block(length, [&](const Block& block) {
        const MatrixView<float> p(scores.data(), block.count, block.keys);
        const MatrixView<float> dp(dscores.data(), block.count, block.keys);
        const auto query_rows = query.middle_rows(block.first, block.count);
        const auto dout_rows = dout.middle_rows(block.first, block.count);
        multiply_nt(type_, query_rows, first_rows(keys, block.keys), p);
        multiply_nt(type_, dout_rows, first_rows(values, block.keys), dp);
        for (size_t i = 0; i < block.count; ++i) {
          const size_t seen = block.first + i + 1;
          const auto weights_of_row = p.row(i).first(seen), d = dp.row(i).first(seen);
          if (breaks_stick) {
            break_stick(factor, weights_of_row, std::span(parts).first(seen));
            break_stick_backward(weights_of_row, std::span(parts).first(seen), factor, d);
          } else {
            softmax_again(factor, log_sum[block.first + i], weights_of_row);
            softmax_backward(weights_of_row, factor, d);
          }
          std::ranges::fill(p.row(i).subspan(seen), 0.0f);
          std::ranges::fill(dp.row(i).subspan(seen), 0.0f);
        }
        multiply_tn(type_, p, dout_rows, dvalue.middle_rows(0, block.keys), Into::Add);
        multiply_tn(type_, dp, query_rows, dkey.middle_rows(0, block.keys), Into::Add);
        multiply_nn(type_, dp, first_rows(keys, block.keys), dquery.middle_rows(block.first, block.count));
      });
    }
  });
  norm_and_rotate_backward(qkv_TQ, weights, segments, dqkv_TQ, gradients);
}

}  // namespace moiety::train
