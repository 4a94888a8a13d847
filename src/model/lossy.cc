#include "model/lossy.h"

#include <algorithm>
#include <cmath>

namespace moiety::model {
namespace {

float heaviest(const moe::Routing& routing, int t) {
  const auto begin = routing.weights_N.begin() + routing.begin_T1[t], end = routing.weights_N.begin() + routing.begin_T1[t + 1];
  return begin == end ? 0 : *std::max_element(begin, end);
}

}  // namespace

void prefer_resident(const store::ExpertStore& store, int layer, float share, size_t experts, size_t choices,
                     std::span<float> scores_TC) {
  for (size_t e = 0; e < experts; ++e) {
    if (store.has({layer, static_cast<int>(e)})) continue;
    for (size_t at = e; at < scores_TC.size(); at += choices) scores_TC[at] -= share * std::abs(scores_TC[at]);
  }
}

void skip_missing(const store::ExpertStore& store, int layer, float share, moe::Routing& routing) {
  moe::Routing out{.num_experts = routing.num_experts, .zero_cost = std::move(routing.zero_cost)};
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const float most = heaviest(routing, t);
    float before = 0, after = 0;
    const size_t first = out.weights_N.size();
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      const float weight = routing.weights_N[n];
      before += weight;
      if (weight < share * most && !store.has({layer, routing.experts_N[n]})) continue;
      after += weight;
      out.experts_N.push_back(routing.experts_N[n]);
      out.weights_N.push_back(weight);
    }
    if (after > 0 && after < before) {
      for (size_t n = first; n < out.weights_N.size(); ++n) out.weights_N[n] *= before / after;
    }
    out.begin_T1.push_back(static_cast<int32_t>(out.experts_N.size()));
  }
  routing = std::move(out);
}

std::vector<bool> unimportant(const moe::Routing& routing, float share) {
  std::vector<bool> out_E(static_cast<size_t>(routing.num_experts), true);
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const float most = heaviest(routing, t);
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      if (!(routing.weights_N[n] <= share * most)) out_E[static_cast<size_t>(routing.experts_N[n])] = false;
    }
  }
  return out_E;
}

}  // namespace moiety::model
