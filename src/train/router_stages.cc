#include "train/router_stages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "train/loops.h"

namespace moiety::train {
namespace {

using spec::RouterRule;
using spec::Score;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// d(activation) / d(logit)
float slope(spec::LogitActivation activation, float x) {
  switch (activation) {
    case spec::LogitActivation::None: return 1;
    case spec::LogitActivation::Tanh: return 1 - std::tanh(x) * std::tanh(x);
    case spec::LogitActivation::Sigmoid: return sigmoid(x) * (1 - sigmoid(x));
    case spec::LogitActivation::Silu: return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
  }
  return 1;
}

// Calls body(choice, gradient of its weight) for each visit of token t whose weight has a share of the sum.
template <class Body>
void for_weighed(const RouterRule& rule, const moe::Routing& routing, int t, std::span<const float> dmix_N,
                 std::span<const float> dmix_M, const Body& body) {
  for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) body(routing.experts_N[n], dmix_N[n]);
  if (rule.zero_cost_experts() == 0) return;
  for (int m = routing.zero_cost.begin_T1[t]; m < routing.zero_cost.begin_T1[t + 1]; ++m) {
    const int32_t choice = routing.zero_cost.experts_N[m];
    if (rule.kind_of(choice) != spec::ZeroCost::Null) body(choice, dmix_M[m]);
  }
}

}  // namespace

void shares_of(const RouterRule& rule, std::span<const float> scores_C, std::span<float> share_C) {
  std::ranges::copy(scores_C, share_C.begin());
  if (rule.score == Score::Softmax) return;
  if (rule.score == Score::Logits) {
    const float sum = exponentials(1, share_C).sum;
    return scale(1 / sum, share_C);
  }
  const float sum = std::accumulate(scores_C.begin(), scores_C.end(), 0.0f);
  scale(sum > 0 ? 1 / sum : 0, share_C);
}

void shares_backward(const RouterRule& rule, std::span<const float> scores_C, std::span<const float> share_C,
                     std::span<const float> dshare_C, std::span<float> dscores_C) {
  if (rule.score == Score::Softmax) return add(dshare_C, dscores_C);
  const float along = dot(dshare_C, share_C);
  const float sum = std::accumulate(scores_C.begin(), scores_C.end(), 0.0f);
  for (size_t c = 0; c < scores_C.size(); ++c) {
    const float inward = dshare_C[c] - along;
    dscores_C[c] += rule.score == Score::Logits ? share_C[c] * inward : sum > 0 ? inward / sum : 0;
  }
}

void weigh_backward(const RouterRule& rule, const moe::Routing& routing, int t, std::span<const float> scores_C,
                    std::span<const float> dmix_N, std::span<const float> dmix_M, std::span<float> dscores_C) {
  const float factor = moe::mixing_factor(rule, scores_C, routing, t);
  // Renormalised weights sum to `scale` whatever the scores: what all of them gain together is nobody's gain.
  float mean = 0;
  if (rule.renormalise) {
    for_weighed(rule, routing, t, dmix_N, dmix_M,
                [&](int32_t choice, float dmix) { mean += dmix * scores_C[static_cast<size_t>(choice)] * factor / rule.scale; });
  }
  for_weighed(rule, routing, t, dmix_N, dmix_M,
              [&](int32_t choice, float dmix) { dscores_C[static_cast<size_t>(choice)] += factor * (dmix - mean); });
}

void score_backward(const RouterRule& rule, std::span<const float> logits_C, std::span<const float> scores_C,
                    std::span<float> dscores_C, std::span<float> dlogits_C) {
  if (rule.score == Score::Softmax) softmax_backward(scores_C, 1, dscores_C);
  if (rule.score == Score::Sigmoid) {
    for (size_t c = 0; c < scores_C.size(); ++c) dscores_C[c] *= scores_C[c] * (1 - scores_C[c]);
  }
  for (size_t c = 0; c < logits_C.size(); ++c) {
    dlogits_C[c] = dscores_C[c] * slope(rule.logit_activation, logits_C[c]) / rule.temperature;
  }
}

}  // namespace moiety::train
