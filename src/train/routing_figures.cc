#include "train/routing_figures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moiety::train {

RoutingFigures::RoutingFigures(const std::vector<int>& experts_L)
    : load_(static_cast<int>(experts_L.size()), experts_L.empty() ? 0 : std::ranges::max(experts_L)) {
  for (const int experts : experts_L) layers_.push_back({.experts = experts, .wanted_E = std::vector<double>(static_cast<size_t>(load_.experts()), 0)});
}

std::span<const int64_t> RoutingFigures::visits_of(size_t layer) const {
  return load_.of_layer(static_cast<int>(layer)).first(static_cast<size_t>(layers_[layer].experts));
}

void RoutingFigures::add(const Routes& routes, bool with_entropy) {
  for (size_t layer = 0; layer < routes.size(); ++layer) {
    if (routes[layer] == nullptr) continue;
    const RouterSaved& saved = *routes[layer];
    Layer& to = layers_[layer];
    const double tokens = saved.plan->routing.num_tokens();
    load_.add(static_cast<int>(layer), saved.plan->routing);
    to.tokens += tokens;
    to.dropped += saved.plan->dispatch.num_dropped();
    to.z += saved.z_loss * tokens;
    for (size_t e = 0; e < std::min(saved.balance.wanted_E.size(), to.wanted_E.size()); ++e) to.wanted_E[e] += saved.balance.wanted_E[e];
    const auto scores_TE = saved.scores_TC.view();
    if (!with_entropy || scores_TE.rows() == 0) continue;  // no router was asked
    to.entropy += router_entropy(saved.rule, scores_TE) * tokens;
    to.entropy_tokens += tokens;
  }
}

void RoutingFigures::add(const RoutingFigures& other) {
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    Layer& to = layers_[layer];
    const Layer& from = other.layers_[layer];
    to.tokens += from.tokens;
    to.dropped += from.dropped;
    to.z += from.z;
    to.entropy += from.entropy;
    to.entropy_tokens += from.entropy_tokens;
    for (size_t e = 0; e < to.wanted_E.size(); ++e) {
      to.wanted_E[e] += from.wanted_E[e];
      load_.add(static_cast<int>(layer), static_cast<int>(e), other.load_.of_layer(static_cast<int>(layer))[e]);
    }
  }
}

void RoutingFigures::sum(const SumOverRanks& sum_over_ranks) {
  std::vector<double> numbers;
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const Layer& from = layers_[layer];
    const auto visits_E = load_.of_layer(static_cast<int>(layer));
    numbers.insert(numbers.end(), {from.tokens, from.dropped, from.z, from.entropy, from.entropy_tokens});
    numbers.insert(numbers.end(), from.wanted_E.begin(), from.wanted_E.end());
    numbers.insert(numbers.end(), visits_E.begin(), visits_E.end());
  }
  sum_over_ranks(numbers);
  moe::Load load(load_.layers(), load_.experts());
  auto next = numbers.begin();
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    Layer& to = layers_[layer];
    for (double* figure : {&to.tokens, &to.dropped, &to.z, &to.entropy, &to.entropy_tokens}) *figure = *next++;
    for (double& wanted : to.wanted_E) wanted = *next++;
    for (int expert = 0; expert < load.experts(); ++expert) load.add(static_cast<int>(layer), expert, std::llround(*next++));
  }
  load_ = std::move(load);
}

std::optional<size_t> RoutingFigures::no_numbers() const {
  const auto found = std::ranges::find_if(layers_, [](const Layer& layer) { return !std::isfinite(layer.z); });
  return found == layers_.end() ? std::nullopt : std::optional(static_cast<size_t>(found - layers_.begin()));
}

double RoutingFigures::dropped_share() const {
  double dropped = 0, visits = 0;
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const auto visits_E = visits_of(layer);
    dropped += layers_[layer].dropped;
    visits += static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
  }
  return visits == 0 ? 0 : dropped / visits;
}

double RoutingFigures::balance_loss() const {
  double sum = 0;
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    sum += balance_of_sums(visits_of(layer), layers_[layer].wanted_E, layers_[layer].tokens);
  }
  return layers_.empty() ? 0 : sum / static_cast<double>(layers_.size());
}

Json RoutingFigures::by_layer() const {
  Json list = Json::array();
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const moe::Balance balance = moe::balance_of(visits_of(layer));
    const auto visits_E = visits_of(layer);
    const double visits = static_cast<double>(std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}));
    Json figures = {{"max_over_mean", balance.max_over_mean},
                    {"entropy", balance.entropy},
                    {"idle", balance.idle},
                    {"experts_per_token", layers_[layer].tokens == 0 ? 0.0 : visits / layers_[layer].tokens},
                    {"dropped", visits == 0 ? 0.0 : layers_[layer].dropped / visits},
                    {"z_loss", layers_[layer].tokens == 0 ? 0.0 : layers_[layer].z / layers_[layer].tokens}};
    if (layers_[layer].entropy_tokens > 0) figures["router_entropy"] = layers_[layer].entropy / layers_[layer].entropy_tokens;
    list.push_back(std::move(figures));
  }
  return list;
}

Json RoutingFigures::visits() const {
  Json list = Json::array();
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const auto visits_E = visits_of(layer);
    list.push_back(std::vector<int64_t>(visits_E.begin(), visits_E.end()));
  }
  return list;
}

std::vector<double> specialisation_by_layer(const std::vector<const RoutingFigures*>& domains) {
  std::vector<double> by_layer;
  const int layers = domains.empty() ? 0 : domains[0]->load().layers();
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<std::span<const int64_t>> visits;
    for (const RoutingFigures* domain : domains) visits.push_back(domain->load().of_layer(layer));
    by_layer.push_back(moe::specialisation(visits));
  }
  return by_layer;
}

}  // namespace moiety::train
