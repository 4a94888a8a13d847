#include "moe/route.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace moiety::moe {

void score(const spec::RouterRule& rule, std::span<float> logits_E) {
  if (rule.score == spec::Score::Sigmoid) {
    for (float& x : logits_E) x = 1.0f / (1.0f + std::exp(-x));
    return;
  }
  float largest = -std::numeric_limits<float>::infinity();
  for (const float x : logits_E) largest = std::max(largest, x);
  float sum = 0;
  for (float& x : logits_E) sum += x = std::exp(x - largest);
  for (float& x : logits_E) x /= sum;
}

Routing choose_experts(const spec::RouterRule& rule, std::span<const float> scores_TE,
                       std::span<const float> bias_E) {
  const size_t num_experts = static_cast<size_t>(rule.num_experts);
  const size_t per_token = static_cast<size_t>(rule.experts_per_token);
  assert(num_experts > 0 && per_token <= num_experts && scores_TE.size() % num_experts == 0);
  assert(bias_E.empty() || bias_E.size() == num_experts);

  Routing routing{.num_experts = rule.num_experts};
  const size_t num_tokens = scores_TE.size() / num_experts;
  routing.begin_T1.reserve(num_tokens + 1);
  routing.experts_N.reserve(num_tokens * per_token);

  std::vector<float> key_E(num_experts);
  std::vector<int32_t> order_E(num_experts);
  for (size_t t = 0; t < num_tokens; ++t) {
    for (size_t e = 0; e < num_experts; ++e) {
      const float key = scores_TE[t * num_experts + e] + (bias_E.empty() ? 0.0f : bias_E[e]);
      key_E[e] = std::isnan(key) ? -std::numeric_limits<float>::infinity() : key;
      order_E[e] = static_cast<int32_t>(e);
    }
    const auto better = [&](int32_t a, int32_t b) {
      return key_E[a] != key_E[b] ? key_E[a] > key_E[b] : a < b;
    };
    std::partial_sort(order_E.begin(), order_E.begin() + per_token, order_E.end(), better);
    routing.experts_N.insert(routing.experts_N.end(), order_E.begin(), order_E.begin() + per_token);
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
  }
  return routing;
}

Routing route(const spec::RouterRule& rule, std::span<const float> logits_TE, std::span<const float> bias_E) {
  const size_t num_experts = static_cast<size_t>(rule.num_experts);
  std::vector<float> scores_TE(logits_TE.begin(), logits_TE.end());
  for (size_t at = 0; at < scores_TE.size(); at += num_experts) {
    score(rule, std::span(scores_TE).subspan(at, num_experts));
  }
  Routing routing = choose_experts(rule, scores_TE, bias_E);

  // Weigh
  routing.weights_N.resize(routing.experts_N.size());
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const int begin = routing.begin_T1[t], end = routing.begin_T1[t + 1];
    float sum = 0;
    for (int n = begin; n < end; ++n) {
      sum += routing.weights_N[n] = scores_TE[t * num_experts + routing.experts_N[n]];
    }
    // All-zero scores (sigmoid of very negative logits) stay zero.
    const float factor = rule.renormalise && sum > 0 ? rule.scale / sum : rule.scale;
    for (int n = begin; n < end; ++n) routing.weights_N[n] *= factor;
  }
  return routing;
}

}  // namespace moiety::moe
