#include "moe/token_rounding.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>

namespace moiety::moe {
namespace {

// The nearest multiple of tile to `count` that is at most `most`.
int nearest_multiple(int count, int tile, int most) { return std::min((count + tile / 2) / tile, most / tile) * tile; }

// A NaN counts as the smallest.
float score_of(float score) { return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score; }

}  // namespace

Routing round_tokens(const Routing& routing, std::span<const float> scores_TE, int tile) {
  const size_t experts = static_cast<size_t>(routing.num_experts), tokens = static_cast<size_t>(routing.num_tokens());
  assert(tile > 0 && scores_TE.size() == tokens * experts);
  std::vector<char> visits_TE(tokens * experts, 0);
  std::vector<int> count_E(experts, 0);
  for (size_t t = 0; t < tokens; ++t) {
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      visits_TE[t * experts + static_cast<size_t>(routing.experts_N[n])] = 1;
      ++count_E[static_cast<size_t>(routing.experts_N[n])];
    }
  }

  // Each expert drops or adds
  std::vector<size_t> candidates;
  for (size_t e = 0; e < experts; ++e) {
    const int wanted = nearest_multiple(count_E[e], tile, static_cast<int>(tokens)), change = wanted - count_E[e];
    if (change == 0) continue;
    candidates.clear();
    for (size_t t = 0; t < tokens; ++t) {
      if ((visits_TE[t * experts + e] != 0) == (change < 0)) candidates.push_back(t);
    }
    // Those who change come first: the worst of the visitors, the best of the others.
    const auto better = [&](size_t a, size_t b) {
      const float score_a = score_of(scores_TE[a * experts + e]), score_b = score_of(scores_TE[b * experts + e]);
      return score_a != score_b ? score_a > score_b : a < b;
    };
    const auto sooner = [&](size_t a, size_t b) { return change > 0 ? better(a, b) : better(b, a); };
    const size_t changing = static_cast<size_t>(std::abs(change));
    std::ranges::nth_element(candidates, candidates.begin() + static_cast<ptrdiff_t>(changing) - 1, sooner);
    for (size_t i = 0; i < changing; ++i) visits_TE[candidates[i] * experts + e] = change > 0 ? 1 : 0;
  }

  // Back to lists by token
  Routing rounded{.num_experts = routing.num_experts};
  rounded.experts_N.reserve(routing.experts_N.size());
  for (size_t t = 0; t < tokens; ++t) {
    const size_t begin = rounded.experts_N.size();
    for (size_t e = 0; e < experts; ++e) {
      if (visits_TE[t * experts + e] != 0) rounded.experts_N.push_back(static_cast<int32_t>(e));
    }
    std::stable_sort(rounded.experts_N.begin() + static_cast<ptrdiff_t>(begin), rounded.experts_N.end(), [&](int32_t a, int32_t b) {
      return score_of(scores_TE[t * experts + static_cast<size_t>(a)]) > score_of(scores_TE[t * experts + static_cast<size_t>(b)]);
    });
    rounded.begin_T1.push_back(static_cast<int32_t>(rounded.experts_N.size()));
  }
  return rounded;
}

}  // namespace moiety::moe
