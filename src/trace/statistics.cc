#include "trace/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moiety::trace {
namespace {

void add_to(moe::Load& load, const TokenRun& run) {
  for (size_t layer = 0; layer < run.by_sparse_layer.size(); ++layer) {
    for (const uint16_t expert : run.by_sparse_layer[layer].experts_N) load.add(static_cast<int>(layer), expert, 1);
  }
}

moe::Load empty_load(const TraceHeader& header) { return {static_cast<int>(header.sparse_layers.size()), header.num_experts}; }

int64_t total(std::span<const int64_t> visits_E) { return std::accumulate(visits_E.begin(), visits_E.end(), int64_t{0}); }

// A distribution over pairs of experts, counted.
class PairCounts {
 public:
  explicit PairCounts(int num_experts) : experts_(static_cast<size_t>(num_experts)), weight_EE_(experts_ * experts_, 0) {}

  void add(std::span<const uint16_t> firsts, std::span<const uint16_t> seconds) {
    if (firsts.empty() || seconds.empty()) return;
    const double weight = 1.0 / static_cast<double>(firsts.size() * seconds.size());
    for (const uint16_t a : firsts) {
      for (const uint16_t b : seconds) weight_EE_[a * experts_ + b] += weight;
    }
  }

  double mutual_information_bits() const {
    std::vector<double> first_E(experts_, 0), second_E(experts_, 0);
    double all = 0;
    for (size_t a = 0; a < experts_; ++a) {
      for (size_t b = 0; b < experts_; ++b) {
        const double weight = weight_EE_[a * experts_ + b];
        first_E[a] += weight;
        second_E[b] += weight;
        all += weight;
      }
    }
    double bits = 0;
    for (size_t a = 0; a < experts_; ++a) {
      for (size_t b = 0; b < experts_; ++b) {
        const double weight = weight_EE_[a * experts_ + b];
        if (weight > 0) bits += weight / all * std::log2(weight * all / (first_E[a] * second_E[b]));
      }
    }
    return bits;
  }

 private:
  size_t experts_;
  std::vector<double> weight_EE_;
};

}  // namespace

moe::Load load_of(const TraceHeader& header, std::span<const TokenRun> runs) {
  moe::Load load = empty_load(header);
  for (const TokenRun& run : runs) add_to(load, run);
  return load;
}

std::map<std::string, moe::Load> loads_by_domain(const TraceHeader& header, std::span<const TokenRun> runs) {
  std::map<std::string, moe::Load> loads;
  for (const TokenRun& run : runs) add_to(loads.try_emplace(run.domain, empty_load(header)).first->second, run);
  return loads;
}

int hot_set(std::span<const int64_t> visits_E, double share) {
  std::vector<int64_t> falling(visits_E.begin(), visits_E.end());
  std::sort(falling.rbegin(), falling.rend());
  const double wanted = share * static_cast<double>(total(visits_E));
  int experts = 0;
  for (double sum = 0; sum < wanted; ++experts) sum += static_cast<double>(falling[static_cast<size_t>(experts)]);
  return experts;
}

int ReuseDistances::quantile(double share) const {
  const int64_t all = total(visits_D);
  int64_t sum = 0;
  for (size_t distance = 0; distance < visits_D.size(); ++distance) {
    sum += visits_D[distance];
    if (all > 0 && static_cast<double>(sum) >= share * static_cast<double>(all)) return static_cast<int>(distance);
  }
  return -1;
}

ReuseDistances reuse_distances(std::span<const TokenRun> runs, int layer, int num_experts) {
  ReuseDistances distances{.visits_D = std::vector<int64_t>(static_cast<size_t>(num_experts), 0)};
  std::vector<uint16_t> newest;  // the experts visited so far, the last one first
  for (const TokenRun& run : runs) {
    newest.clear();
    for (const uint16_t expert : run.by_sparse_layer[static_cast<size_t>(layer)].experts_N) {
      const auto at = std::find(newest.begin(), newest.end(), expert);
      if (at == newest.end()) {
        ++distances.first_visits;
        newest.insert(newest.begin(), expert);
      } else {
        ++distances.visits_D[static_cast<size_t>(at - newest.begin())];
        std::rotate(newest.begin(), at, at + 1);
      }
    }
  }
  return distances;
}

Repetition repetition(std::span<const TokenRun> runs, int layer, int num_experts) {
  int64_t visits = 0, repeated = 0;
  double by_chance = 0;
  for (const TokenRun& run : runs) {
    const LayerRun& of = run.by_sparse_layer[static_cast<size_t>(layer)];
    for (size_t t = 1; t < of.tokens(); ++t) {
      const auto before = of.of(t - 1);
      for (const uint16_t expert : of.of(t)) {
        ++visits;
        repeated += std::find(before.begin(), before.end(), expert) != before.end();
        by_chance += static_cast<double>(before.size()) / num_experts;
      }
    }
  }
  if (visits == 0) return {};
  return {static_cast<double>(repeated) / static_cast<double>(visits), by_chance / static_cast<double>(visits)};
}

CoActivation co_activation(std::span<const TokenRun> runs, int layer, int num_experts, size_t strongest) {
  const auto experts = static_cast<size_t>(num_experts);
  PairCounts here(num_experts), elsewhere(num_experts);
  std::vector<int64_t> tokens_EE(experts * experts, 0), tokens_E(experts, 0), next_tokens_E(experts, 0);
  int64_t tokens = 0;
  for (const TokenRun& run : runs) {
    const LayerRun& first = run.by_sparse_layer[static_cast<size_t>(layer)];
    const LayerRun& second = run.by_sparse_layer[static_cast<size_t>(layer) + 1];
    const size_t count = run.tokens();
    for (size_t t = 0; t < count; ++t) {
      here.add(first.of(t), second.of(t));
      if (count > 1) elsewhere.add(first.of(t), second.of((t + count / 2) % count));
      for (const uint16_t a : first.of(t)) ++tokens_E[a];
      for (const uint16_t b : second.of(t)) ++next_tokens_E[b];
      for (const uint16_t a : first.of(t)) {
        for (const uint16_t b : second.of(t)) ++tokens_EE[a * experts + b];
      }
    }
    tokens += static_cast<int64_t>(count);
  }
  CoActivation result{here.mutual_information_bits(), elsewhere.mutual_information_bits(), {}};

  // Pairs
  const auto strength = [](const CoActivation::Pair& pair) { return static_cast<double>(pair.tokens) * std::log(pair.share / pair.by_chance); };
  for (size_t a = 0; a < experts; ++a) {
    for (size_t b = 0; b < experts; ++b) {
      const int64_t both = tokens_EE[a * experts + b];
      if (both == 0) continue;
      result.strongest.push_back({static_cast<int>(a), static_cast<int>(b), both,
                                  static_cast<double>(both) / static_cast<double>(tokens_E[a]),
                                  static_cast<double>(next_tokens_E[b]) / static_cast<double>(tokens)});
    }
  }
  std::stable_sort(result.strongest.begin(), result.strongest.end(),
                   [&](const auto& a, const auto& b) { return strength(a) > strength(b); });
  if (result.strongest.size() > strongest) result.strongest.resize(strongest);
  return result;
}

double jensen_shannon_bits(std::span<const int64_t> visits_E, std::span<const int64_t> others_E) {
  const double all = static_cast<double>(total(visits_E)), all_others = static_cast<double>(total(others_E));
  if (all == 0 || all_others == 0) return 0;
  double bits = 0;
  for (size_t e = 0; e < visits_E.size(); ++e) {
    const double p = static_cast<double>(visits_E[e]) / all, q = static_cast<double>(others_E[e]) / all_others, mean = (p + q) / 2;
    if (p > 0) bits += p * std::log2(p / mean) / 2;
    if (q > 0) bits += q * std::log2(q / mean) / 2;
  }
  return std::max(0.0, bits);
}

}  // namespace moiety::trace
