#include "model/latent_attention.h"

#include <algorithm>

#include "model/attend.h"
#include "model/elementwise.h"

namespace moiety::model {
namespace {

using kernel::Compute;
using spec::LatentSpec;

// [T, heads * (plain + rope)]
Matrix<float> queries(const Compute& compute, float norm_eps, const LatentWeights& w, const kernel::Projection& direct,
                      MatrixView<const float> x_TD) {
  if (w.query_down.empty()) {
    Matrix<float> query(x_TD.rows(), direct.rows);
    kernel::linear(compute, x_TD, direct, query.view());
    return query;
  }
  Matrix<float> small(x_TD.rows(), w.query_down.rows), query(x_TD.rows(), w.query_up.rows);
  kernel::linear(compute, x_TD, w.query_down, small.view());
  for (size_t t = 0; t < small.rows(); ++t) rms_norm(small.row(t), w.query_down_norm, norm_eps, small.row(t));
  kernel::linear(compute, small.view(), w.query_up, query.view());
  return query;
}

// Each head's columns of x [T, heads * …] through its own rows of `weight` [heads * out, in], into y.
void per_head(const Compute& compute, const kernel::WeightView& weight, size_t heads, MatrixView<const float> x,
              size_t x_step, MatrixView<float> y, size_t y_step) {
  const size_t out = weight.rows / heads;
  compute.threads.parallel_for(heads, [&](size_t h) {
    std::vector<const float*> rows(x.rows());
    for (size_t t = 0; t < rows.size(); ++t) rows[t] = x.row(t).data() + h * x_step;
    compute.kernels.linear(rows.data(), rows.size(), weight, h * out, out, y.data() + h * y_step, y.stride());
  });
}

}  // namespace

Matrix<float> latent_attention(const Compute& compute, const spec::AttentionSpec& spec, float norm_eps,
                               const AttentionWeights& weights, int layer, MatrixView<const float> x_TD,
                               const Step& step) {
  const LatentSpec& latent = *spec.latent;
  const LatentWeights& w = weights.latent;
  const size_t tokens = x_TD.rows(), heads = static_cast<size_t>(spec.num_heads), rank = latent.kv_rank;
  const size_t plain = latent.plain_dim, rope = latent.rope_dim, head_dim = plain + rope, key_dim = rank + rope;
  const auto turn = [&](size_t t, std::span<float> numbers) {
    rotate(spec.rope.pairs, step.cos_TR.row(t), step.sin_TR.row(t), numbers);
  };

  // What is cached: the normed latent and the rotated key
  Matrix<float> key(tokens, key_dim);
  kernel::linear(compute, x_TD, w.kv_down, key.view());
  for_each_token(compute, step, [&](const StepPart& part, size_t t, size_t position) {
    const auto row = key.row(t);
    rms_norm(row.first(rank), w.kv_down_norm, norm_eps, row.first(rank));
    turn(t, row.subspan(rank));
    part.cache->layer(layer).put(0, position, row, row.first(rank));
  });

  // Queries, into the latent's space
  const Matrix<float> query = queries(compute, norm_eps, w, weights.query, x_TD);
  Matrix<float> absorbed(tokens, heads * key_dim);
  per_head(compute, w.key_up, heads, query.view(), head_dim, absorbed.view(), key_dim);
  for_each_token(compute, step, [&](const StepPart&, size_t t, size_t) {
    for (size_t h = 0; h < heads; ++h) {
      const auto rotated = absorbed.row(t).subspan(h * key_dim + rank, rope);
      std::ranges::copy(query.row(t).subspan(h * head_dim + plain, rope), rotated.begin());
      turn(t, rotated);
    }
  });

  // Attention over latents; values out of what it gives
  std::vector<AttendRun> runs;
  for (const StepPart& part : step.parts) {
    runs.push_back({part.first_token, part.tokens, part.first_position, &part.cache->layer(layer)});
  }
  const AttendOptions options{heads, static_cast<size_t>(spec.window(layer)), spec.scale(), weights.sinks_H};
  Matrix<float> mixed(tokens, heads * rank);
  attend(compute, options, runs, std::as_const(absorbed).view(), mixed.view());
  const size_t value_dim = latent.value_dim;
  Matrix<float> values(tokens, heads * value_dim), out_TD(tokens, x_TD.cols());
  per_head(compute, w.value_up, heads, mixed.view(), rank, values.view(), value_dim);
  kernel::linear(compute, values.view(), weights.output, out_TD.view());
  for (size_t t = 0; t < tokens; ++t) add(weights.output_bias, out_TD.row(t));
  return out_TD;
}

}  // namespace moiety::model
