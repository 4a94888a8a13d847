#include "moe/route.h"

namespace moiety::moe {
namespace {

template <class List>  // Routing or Visits
void append_visits(const List& part, List& whole) {
  const int32_t before = static_cast<int32_t>(whole.experts_N.size());
  for (size_t t = 1; t < part.begin_T1.size(); ++t) whole.begin_T1.push_back(before + part.begin_T1[t]);
  whole.experts_N.insert(whole.experts_N.end(), part.experts_N.begin(), part.experts_N.end());
  whole.weights_N.insert(whole.weights_N.end(), part.weights_N.begin(), part.weights_N.end());
}

}  // namespace

Routing route(const spec::RouterRule& rule, std::span<const float> logits_TC, std::span<const float> bias_C,
              const Preference& prefer) {
  const size_t choices = static_cast<size_t>(rule.num_choices());
  std::vector<float> scores_TC(logits_TC.begin(), logits_TC.end());
  for (size_t at = 0; at < scores_TC.size(); at += choices) score(rule, std::span(scores_TC).subspan(at, choices));
  std::vector<float> preferred_TC;
  if (prefer) {
    preferred_TC = scores_TC;
    prefer(preferred_TC);
  }
  Routing routing = choose_experts(rule, prefer ? preferred_TC : scores_TC, bias_C);
  weigh(rule, scores_TC, routing);
  return routing;
}

void append(const Routing& part, Routing& whole) {
  append_visits(part, whole);
  append_visits(part.zero_cost, whole.zero_cost);
}

}  // namespace moiety::moe
