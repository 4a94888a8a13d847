#include "moe/load.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace moiety::moe {

void Load::add(int layer, const Routing& routing) {
  assert(routing.num_experts <= experts_);
  for (const int32_t expert : routing.experts_N) add(layer, expert, 1);
}

void Load::add_choices(int layer, const Routing& routing) {
  add(layer, routing);
  for (const int32_t choice : routing.zero_cost.experts_N) {
    assert(choice < experts_);
    add(layer, choice, 1);
  }
}

Balance balance_of(std::span<const int64_t> visits_E) {
  const double total = static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
  if (total == 0) return {.idle = static_cast<int>(visits_E.size())};
  const double experts = static_cast<double>(visits_E.size());
  Balance balance{.max_over_mean = *std::max_element(visits_E.begin(), visits_E.end()) * experts / total};
  for (const int64_t visits : visits_E) {
    if (visits == 0) {
      ++balance.idle;
      continue;
    }
    const double share = visits / total;
    balance.entropy -= share * std::log(share);
  }
  balance.entropy = experts > 1 ? balance.entropy / std::log(experts) : 1;
  return balance;
}

double specialisation(const std::vector<std::span<const int64_t>>& visits_by_domain) {
  std::vector<std::vector<double>> shares;  // of each domain's visits, by expert
  for (const auto visits_E : visits_by_domain) {
    const double total = static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
    if (total == 0) continue;
    shares.emplace_back();
    for (const int64_t visits : visits_E) shares.back().push_back(static_cast<double>(visits) / total);
  }
  const double domains = static_cast<double>(shares.size());
  if (domains < 2) return 0;
  double information = 0;
  for (size_t e = 0; e < shares[0].size(); ++e) {
    double mean = 0;
    for (const auto& share_E : shares) mean += share_E[e] / domains;
    for (const auto& share_E : shares) {
      if (share_E[e] > 0) information += share_E[e] * std::log(share_E[e] / mean) / domains;
    }
  }
  return std::clamp(information / std::log(domains), 0.0, 1.0);
}

void update_selection_bias(std::span<float> bias_E, std::span<const int64_t> visits_E, float rate) {
  assert(bias_E.size() == visits_E.size());
  const int64_t total = std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0});
  const int64_t experts = static_cast<int64_t>(visits_E.size());
  for (size_t e = 0; e < bias_E.size(); ++e) {
    // visits against the mean, in whole numbers
    const int64_t excess = visits_E[e] * experts - total;
    if (excess > 0) bias_E[e] -= rate;
    if (excess < 0) bias_E[e] += rate;
  }
}

}  // namespace moiety::moe
