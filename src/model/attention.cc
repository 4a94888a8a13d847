#include "model/attention.h"

#include <algorithm>

#include "model/attend.h"
#include "model/attention_experts.h"
#include "model/elementwise.h"

namespace moiety::model {
namespace {

using spec::AttentionSpec;
using spec::QkNorm;

// Bias, clip and norm of one token's queries, keys or values.
void finish_projection(const AttentionSpec& spec, float eps, std::span<const float> bias, std::span<const float> norm,
                       std::span<float> row) {
  add(bias, row);
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

}  // namespace

Matrix<float> attention(const kernel::Compute& compute, const AttentionSpec& spec, float norm_eps,
                        const AttentionWeights& weights, int layer, MatrixView<const float> x_TD, const Step& step) {
  const size_t tokens = x_TD.rows(), head_dim = static_cast<size_t>(spec.head_dim);
  const size_t heads = static_cast<size_t>(spec.num_heads), kv_heads = static_cast<size_t>(spec.num_kv_heads);

  // Queries, keys, values
  auto query = Matrix<float>::uninitialised(tokens, heads * head_dim);
  auto key = Matrix<float>::uninitialised(tokens, kv_heads * head_dim), value = Matrix<float>::uninitialised(tokens, kv_heads * head_dim);
  kernel::Activations x(x_TD);
  AttentionChoice choice;
  if (spec.experts) {
    choice = choose_attention_experts(compute, spec, weights.experts, x_TD);
    expert_queries(compute, spec, weights.experts, choice, x_TD, query.view());
  }
  const kernel::Product projections[] = {
      {weights.query, query.view()}, {weights.key, key.view()}, {weights.value, value.view()}};
  kernel::linear(compute, x, std::span(projections).subspan(spec.experts ? 1 : 0));

  // Norms, rotation, into the cache
  for_each_token(compute, step, [&](const StepPart& part, size_t t, size_t position) {
    finish_projection(spec, norm_eps, weights.query_bias, weights.query_norm, query.row(t));
    finish_projection(spec, norm_eps, weights.key_bias, weights.key_norm, key.row(t));
    finish_projection(spec, norm_eps, weights.value_bias, {}, value.row(t));
    const auto head_of = [&](Matrix<float>& m, size_t h) { return m.row(t).subspan(h * head_dim, head_dim); };
    const bool is_rotated = spec.is_rotated();
    const auto turn = [&](std::span<float> head) {
      if (is_rotated) rotate(spec.rope.pairs, step.cos_TR.row(t), step.sin_TR.row(t), head);
    };
    for (size_t h = 0; h < heads; ++h) turn(head_of(query, h));
    for (size_t h = 0; h < kv_heads; ++h) {
      turn(head_of(key, h));
      part.cache->layer(layer).put(h, position, head_of(key, h), head_of(value, h));
    }
  });

  // Each query against the cache
  const AttendOptions options{heads, static_cast<size_t>(spec.window(layer)), spec.scale(),
                              spec.weigh == spec::AttentionWeigh::StickBreaking, weights.sinks_H};
  std::vector<AttendRun> runs;
  for (const StepPart& part : step.parts) {
    runs.push_back({part.first_token, part.tokens, part.first_position, part.cache->layer(layer)});
  }
  auto mixed = Matrix<float>::uninitialised(tokens, heads * head_dim);
  attend(compute, options, runs, std::as_const(query).view(), mixed.view());

  auto out_TD = Matrix<float>::uninitialised(tokens, x_TD.cols());
  if (spec.experts) {
    expert_outputs(compute, spec, weights.experts, choice, std::as_const(mixed).view(), out_TD.view());
  } else {
    kernel::linear(compute, mixed.view(), weights.output, out_TD.view());
  }
  for (size_t t = 0; t < tokens; ++t) add(weights.output_bias, out_TD.row(t));
  return out_TD;
}

}  // namespace moiety::model
