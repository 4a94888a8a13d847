#include "moe/join.h"

#include <algorithm>
#include <cassert>

namespace moiety::moe {

Routing join_visits(std::span<const Routing* const> routings) {
  assert(!routings.empty());
  if (routings.size() == 1) return *routings[0];
  Routing all{.num_experts = routings[0]->num_experts};
  for (int t = 0; t < routings[0]->num_tokens(); ++t) {
    for (const Routing* routing : routings) {
      assert(routing->num_tokens() == routings[0]->num_tokens());
      const auto begin = routing->begin_T1[static_cast<size_t>(t)], end = routing->begin_T1[static_cast<size_t>(t) + 1];
      all.experts_N.insert(all.experts_N.end(), routing->experts_N.begin() + begin, routing->experts_N.begin() + end);
      all.weights_N.insert(all.weights_N.end(), routing->weights_N.begin() + begin, routing->weights_N.begin() + end);
    }
    all.begin_T1.push_back(all.num_visits());
  }
  return all;
}

Routing without_repeats(const Routing& routing) {
  Routing out{.num_experts = routing.num_experts};
  const bool has_weights = !routing.weights_N.empty();
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const auto first = out.experts_N.size();
    for (auto n = static_cast<size_t>(routing.begin_T1[static_cast<size_t>(t)]);
         n < static_cast<size_t>(routing.begin_T1[static_cast<size_t>(t) + 1]); ++n) {
      const auto begin = out.experts_N.begin() + static_cast<ptrdiff_t>(first);
      const auto at = static_cast<size_t>(std::find(begin, out.experts_N.end(), routing.experts_N[n]) - out.experts_N.begin());
      if (at == out.experts_N.size()) {
        out.experts_N.push_back(routing.experts_N[n]);
        if (has_weights) out.weights_N.push_back(0);
      }
      if (has_weights) out.weights_N[at] += routing.weights_N[n];
    }
    out.begin_T1.push_back(out.num_visits());
  }
  return out;
}

}  // namespace moiety::moe
