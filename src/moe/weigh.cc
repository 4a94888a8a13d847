#include <algorithm>
#include <cmath>

#include "moe/route.h"

namespace moiety::moe {
namespace {

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

// Of SparseMixer, whose weights are no scores.
void mix_sparsely(const spec::RouterRule& rule, std::span<const float> scores_C, std::span<const int32_t> chosen,
                  std::span<float> weights) {
  sparse_mixer_weights(rule.sparse_mixer_reach, scores_C, chosen, weights);
  float sum = 0;
  for (const float weight : weights) sum += weight;
  const float factor = rule.renormalise && sum > 0 ? rule.scale / sum : rule.scale;
  for (float& weight : weights) weight *= factor;
}

template <class List>
auto slice(List& list, const std::vector<int32_t>& begin_T1, int t) {
  return std::span(list).subspan(static_cast<size_t>(begin_T1[t]), static_cast<size_t>(begin_T1[t + 1] - begin_T1[t]));
}

}  // namespace

float mixing_factor(const spec::RouterRule& rule, std::span<const float> scores_C, const Routing& routing, int t) {
  if (!rule.renormalise) return rule.scale;
  float sum = 0;
  for (const int32_t e : slice(routing.experts_N, routing.begin_T1, t)) sum += scores_C[static_cast<size_t>(e)];
  if (rule.zero_cost_experts() > 0) {
    for (const int32_t c : slice(routing.zero_cost.experts_N, routing.zero_cost.begin_T1, t)) {
      if (rule.kind_of(c) != spec::ZeroCost::Null) sum += scores_C[static_cast<size_t>(c)];
    }
  }
  // All-zero scores (sigmoid of very negative logits) stay zero.
  return sum > 0 ? rule.scale / sum : rule.scale;
}

void weigh(const spec::RouterRule& rule, std::span<const float> scores_TC, Routing& routing) {
  const size_t choices = static_cast<size_t>(rule.num_choices());
  Visits& zero_cost = routing.zero_cost;
  routing.weights_N.resize(routing.experts_N.size());
  zero_cost.weights_N.resize(zero_cost.experts_N.size());
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const auto scores_C = scores_TC.subspan(static_cast<size_t>(t) * choices, choices);
    const auto chosen = slice(routing.experts_N, routing.begin_T1, t);
    const auto weights = slice(routing.weights_N, routing.begin_T1, t);
    if (rule.weigh == spec::Weigh::SparseMixer) {
      mix_sparsely(rule, scores_C, chosen, weights);
      continue;
    }
    const float factor = mixing_factor(rule, scores_C, routing, t);
    const auto weight = [&](int32_t c) { return scores_C[static_cast<size_t>(c)] * factor; };
    std::ranges::transform(chosen, weights.begin(), weight);
    if (rule.zero_cost_experts() == 0) continue;
    std::ranges::transform(slice(zero_cost.experts_N, zero_cost.begin_T1, t), slice(zero_cost.weights_N, zero_cost.begin_T1, t).begin(),
                           [&](int32_t c) { return rule.kind_of(c) == spec::ZeroCost::Null ? 0 : weight(c); });
  }
}

}  // namespace moiety::moe
