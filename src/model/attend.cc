#include "model/attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moiety::model {
namespace {

// Tokens of one head that one task handles.
constexpr size_t kTokensPerTask = 16;

// One head at one position: over `keys` and `values`, a row each of the positions it may see.
void attend_one(const kernel::Kernels& kernels, float scale, const float* sink, std::span<const float> query,
                MatrixView<const float> keys, MatrixView<const float> values, std::vector<float>& scores,
                std::span<float> out) {
  scores.resize(keys.rows());
  float largest = sink != nullptr ? *sink : -std::numeric_limits<float>::infinity();
  for (size_t j = 0; j < scores.size(); ++j) {
    scores[j] = scale * kernels.dot(query.data(), keys.row(j).data(), query.size());
    largest = std::max(largest, scores[j]);
  }
  float sum = sink != nullptr ? std::exp(*sink - largest) : 0;
  for (float& score : scores) sum += score = std::exp(score - largest);

  std::fill(out.begin(), out.end(), 0.0f);
  for (size_t j = 0; j < scores.size(); ++j) {
    kernels.add_scaled(scores[j] / sum, values.row(j).data(), out.data(), out.size());
  }
}

}  // namespace

Matrix<float> attend(const kernel::Compute& compute, const spec::AttentionSpec& spec, const Step& step, int layer,
                     MatrixView<const float> query, std::span<const float> sinks_H) {
  if (step.tokens() == 0) return {};
  const KvCache& any = *step.cache_T.front();
  const size_t tokens = step.tokens(), heads = static_cast<size_t>(spec.num_heads);
  const size_t key_dim = query.cols() / heads, value_dim = any.value_dim(), sharers = heads / any.heads();
  const size_t window = static_cast<size_t>(spec.window(layer));
  const float scale = spec.scale();

  Matrix<float> mixed(tokens, heads * value_dim);
  const size_t blocks = (tokens + kTokensPerTask - 1) / kTokensPerTask;
  compute.threads.parallel_for(blocks * heads, [&](size_t task) {
    const size_t head = task % heads, begin = task / heads * kTokensPerTask;
    std::vector<float> scores;
    for (size_t t = begin; t < std::min(tokens, begin + kTokensPerTask); ++t) {
      const size_t seen = step.position_T[t] + 1, first = window > 0 && seen > window ? seen - window : 0;
      attend_one(compute.kernels, scale, sinks_H.empty() ? nullptr : &sinks_H[head],
                 query.row(t).subspan(head * key_dim, key_dim),
                 step.cache_T[t]->keys(layer, head / sharers).middle_rows(first, seen - first),
                 step.cache_T[t]->values(layer, head / sharers).middle_rows(first, seen - first), scores,
                 mixed.row(t).subspan(head * value_dim, value_dim));
    }
  });
  return mixed;
}

}  // namespace moiety::model
