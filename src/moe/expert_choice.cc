#include "moe/expert_choice.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace moiety::moe {
namespace {

// The tokens of one expert, by falling score as far as the first that isn't taken.
std::vector<int32_t> by_score(std::span<const float> scores_T, size_t taken) {
  std::vector<int32_t> order(scores_T.size());
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int32_t a, int32_t b) { return scores_T[a] != scores_T[b] ? scores_T[a] > scores_T[b] : a < b; };
  const size_t known = std::min(taken + 1, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(known), order.end(), better);
  return order;
}

}  // namespace

ExpertChoice choose_tokens(const spec::RouterRule& rule, std::span<const float> scores_TE) {
  const size_t experts = static_cast<size_t>(rule.num_experts), tokens = scores_TE.size() / experts;
  const auto wanted = static_cast<size_t>(std::lround(static_cast<double>(tokens) * rule.experts_per_token / rule.num_experts));
  const size_t taken = std::min(std::max<size_t>(wanted, 1), tokens);
  ExpertChoice choice{.routing = {.num_experts = rule.num_experts}, .cut_off_E = std::vector<float>(experts, 0)};
  std::vector<std::vector<int32_t>> experts_T(tokens);
  std::vector<float> scores_T(tokens);
  for (size_t e = 0; e < experts && tokens > 0; ++e) {
    for (size_t t = 0; t < tokens; ++t) {
      const float score = scores_TE[t * experts + e];
      scores_T[t] = std::isnan(score) ? -INFINITY : score;
    }
    const std::vector<int32_t> order = by_score(scores_T, taken);
    for (size_t i = 0; i < taken; ++i) experts_T[static_cast<size_t>(order[i])].push_back(static_cast<int32_t>(e));
    const float last = scores_T[static_cast<size_t>(order[taken - 1])];
    choice.cut_off_E[e] = taken < tokens ? (last + scores_T[static_cast<size_t>(order[taken])]) / 2 : last;
  }
  for (size_t t = 0; t < tokens; ++t) {
    // In the order of falling score, as everywhere
    std::ranges::stable_sort(experts_T[t], [&](int32_t a, int32_t b) { return scores_TE[t * experts + static_cast<size_t>(a)] > scores_TE[t * experts + static_cast<size_t>(b)]; });
    choice.routing.experts_N.insert(choice.routing.experts_N.end(), experts_T[t].begin(), experts_T[t].end());
    choice.routing.begin_T1.push_back(static_cast<int32_t>(choice.routing.experts_N.size()));
  }
  return choice;
}

void follow_cut_offs(std::span<float> bias_E, std::span<const float> cut_off_E, float rate) {
  assert(bias_E.size() == cut_off_E.size());
  for (size_t e = 0; e < bias_E.size(); ++e) bias_E[e] += rate * (-cut_off_E[e] - bias_E[e]);
}

}  // namespace moiety::moe
