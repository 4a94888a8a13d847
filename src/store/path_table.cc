#include "store/path_table.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace moiety::store {
namespace {

// What has been seen fades by so much whenever it is added to: the last thousand uses of an expert count.
constexpr float kFades = 0.999f;

}  // namespace

PathTable::PathTable(std::span<const size_t> experts_L) : experts_L_(experts_L.begin(), experts_L.end()), followed_LEE_(experts_L.size()) {}

void PathTable::learn(int layer, std::span<const Demand> chosen, int next, std::span<const Demand> chosen_next) {
  const size_t experts = experts_L_[static_cast<size_t>(next)];
  std::vector<float>& followed_EE = followed_LEE_[static_cast<size_t>(layer)];
  followed_EE.resize(experts_L_[static_cast<size_t>(layer)] * experts);
  for (const Demand& from : chosen) {
    const auto row = std::span(followed_EE).subspan(static_cast<size_t>(from.expert) * experts, experts);
    for (float& times : row) times *= kFades;
    for (const Demand& to : chosen_next) row[static_cast<size_t>(to.expert)] += 1;
  }
}

std::vector<int> PathTable::rank(int layer, std::span<const Demand> chosen, int next, size_t most) const {
  const size_t experts = experts_L_[static_cast<size_t>(next)];
  const std::vector<float>& followed_EE = followed_LEE_[static_cast<size_t>(layer)];
  if (followed_EE.empty()) return {};
  std::vector<float> score_E(experts);
  for (const Demand& from : chosen) {
    const auto row = std::span(followed_EE).subspan(static_cast<size_t>(from.expert) * experts, experts);
    const float all = std::accumulate(row.begin(), row.end(), 0.0f);
    for (size_t e = 0; all > 0 && e < experts; ++e) score_E[e] += from.weight * row[e] / all;
  }
  std::vector<int> ranked(experts);
  std::iota(ranked.begin(), ranked.end(), 0);
  std::ranges::stable_sort(ranked, std::greater(), [&](int e) { return score_E[static_cast<size_t>(e)]; });
  ranked.resize(std::min(most, experts));
  while (!ranked.empty() && score_E[static_cast<size_t>(ranked.back())] == 0) ranked.pop_back();
  return ranked;
}

}  // namespace moiety::store
