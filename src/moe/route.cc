#include "moe/route.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

namespace moiety::moe {

namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// What a group is worth by its experts' keys.
float worth(spec::GroupScore by, std::span<const float> keys) {
  float best = kLowest, second = kLowest;
  for (const float key : keys) {
    if (key > best) {
      second = best;
      best = key;
    } else if (key > second) {
      second = key;
    }
  }
  return by == spec::GroupScore::Best || keys.size() == 1 ? best : best + second;
}

// The first `count` numbers of 0 … size - 1 by falling key, ties to the lower number.
void largest(std::span<const float> keys, size_t count, std::vector<int32_t>& order) {
  order.resize(keys.size());
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int32_t a, int32_t b) { return keys[a] != keys[b] ? keys[a] > keys[b] : a < b; };
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(), better);
}

// Experts outside the best groups fall out of the running.
void limit_to_groups(const spec::RouterRule& rule, std::span<float> key_E) {
  const size_t groups = static_cast<size_t>(rule.num_groups), size = key_E.size() / groups;
  std::vector<float> worth_G(groups);
  for (size_t g = 0; g < groups; ++g) worth_G[g] = worth(rule.group_score, key_E.subspan(g * size, size));
  std::vector<int32_t> order;
  largest(worth_G, static_cast<size_t>(rule.groups_per_token), order);
  for (size_t i = static_cast<size_t>(rule.groups_per_token); i < groups; ++i) {
    std::ranges::fill(key_E.subspan(static_cast<size_t>(order[i]) * size, size), kLowest);
  }
}

// SparseMixer's weights: of each chosen expert in turn, its share of a softmax over the experts not yet chosen whose
// logits come close to its own.
void sparse_mixer_weights(float reach, std::span<const float> logits_E, std::span<const int32_t> chosen,
                          std::span<float> weights) {
  for (size_t n = 0; n < chosen.size(); ++n) {
    const float top = logits_E[static_cast<size_t>(chosen[n])];
    float sum = 0;
    for (size_t e = 0; e < logits_E.size(); ++e) {
      if (std::ranges::count(chosen.first(n), static_cast<int32_t>(e)) > 0) continue;
      const bool far = (top - logits_E[e]) / std::max(std::abs(logits_E[e]), top) > reach;
      if (!far) sum += std::exp(logits_E[e] - top);
    }
    weights[n] = 1 / sum;
  }
}

}  // namespace

void score(const spec::RouterRule& rule, std::span<float> logits_E) {
  if (rule.score == spec::Score::Logits) return;
  if (rule.score == spec::Score::Sigmoid) {
    for (float& x : logits_E) x = 1.0f / (1.0f + std::exp(-x));
    return;
  }
  float top = kLowest;
  for (const float x : logits_E) top = std::max(top, x);
  float sum = 0;
  for (float& x : logits_E) sum += x = std::exp(x - top);
  for (float& x : logits_E) x /= sum;
}

Routing choose_experts(const spec::RouterRule& rule, std::span<const float> scores_TE, std::span<const float> bias_E) {
  const size_t num_experts = static_cast<size_t>(rule.num_experts);
  const size_t per_token = static_cast<size_t>(rule.experts_per_token);
  assert(num_experts > 0 && per_token <= num_experts && scores_TE.size() % num_experts == 0);
  assert(bias_E.empty() || bias_E.size() == num_experts);

  Routing routing{.num_experts = rule.num_experts};
  const size_t num_tokens = scores_TE.size() / num_experts;
  routing.begin_T1.reserve(num_tokens + 1);
  routing.experts_N.reserve(num_tokens * per_token);

  std::vector<float> key_E(num_experts);
  std::vector<int32_t> order_E;
  for (size_t t = 0; t < num_tokens; ++t) {
    for (size_t e = 0; e < num_experts; ++e) {
      const float key = scores_TE[t * num_experts + e] + (bias_E.empty() ? 0.0f : bias_E[e]);
      key_E[e] = std::isnan(key) ? kLowest : key;
    }
    if (rule.num_groups > 1) limit_to_groups(rule, key_E);
    largest(key_E, per_token, order_E);
    routing.experts_N.insert(routing.experts_N.end(), order_E.begin(), order_E.begin() + static_cast<ptrdiff_t>(per_token));
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
  }
  return routing;
}

void weigh(const spec::RouterRule& rule, std::span<const float> scores_TE, Routing& routing) {
  const size_t num_experts = static_cast<size_t>(rule.num_experts);
  routing.weights_N.resize(routing.experts_N.size());
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const size_t begin = static_cast<size_t>(routing.begin_T1[t]), count = routing.begin_T1[t + 1] - begin;
    const auto chosen = std::span(routing.experts_N).subspan(begin, count);
    const auto weights = std::span(routing.weights_N).subspan(begin, count);
    const auto scores_E = scores_TE.subspan(t * num_experts, num_experts);
    if (rule.weigh == spec::Weigh::SparseMixer) {
      sparse_mixer_weights(rule.sparse_mixer_reach, scores_E, chosen, weights);
    } else {
      std::ranges::transform(chosen, weights.begin(), [&](int32_t e) { return scores_E[static_cast<size_t>(e)]; });
    }
    const float sum = std::accumulate(weights.begin(), weights.end(), 0.0f);
    // All-zero scores (sigmoid of very negative logits) stay zero.
    const float factor = rule.renormalise && sum > 0 ? rule.scale / sum : rule.scale;
    for (float& weight : weights) weight *= factor;
  }
}

Routing route(const spec::RouterRule& rule, std::span<const float> logits_TE, std::span<const float> bias_E,
              const Preference& prefer) {
  const size_t num_experts = static_cast<size_t>(rule.num_experts);
  std::vector<float> scores_TE(logits_TE.begin(), logits_TE.end());
  for (size_t at = 0; at < scores_TE.size(); at += num_experts) {
    score(rule, std::span(scores_TE).subspan(at, num_experts));
  }
  std::vector<float> preferred_TE;
  if (prefer) {
    preferred_TE = scores_TE;
    prefer(preferred_TE);
  }
  Routing routing = choose_experts(rule, prefer ? preferred_TE : scores_TE, bias_E);
  weigh(rule, scores_TE, routing);
  return routing;
}

}  // namespace moiety::moe
