// Experts' homes by chance, which a move could have led to.
#pragma once

#include "base/random.h"
#include "train/expert_homes.h"

namespace moiety::test {

// Each rank keeps its number of experts of each kind. The same on every rank, by `random`.
inline moe::Placement random_homes(const spec::ModelSpec& spec, int layer, const moe::Placement& placement, Random& random) {
  std::vector<int> owner_E(placement.owners().begin(), placement.owners().end()), bounds = train::kinds_of(spec, layer);
  bounds.push_back(placement.num_experts());
  for (size_t kind = 0; kind + 1 < bounds.size(); ++kind) {
    for (int last = bounds[kind + 1] - 1; last > bounds[kind]; --last) {
      const auto other = bounds[kind] + static_cast<int>(random.below(static_cast<uint64_t>(last - bounds[kind] + 1)));
      std::swap(owner_E[static_cast<size_t>(last)], owner_E[static_cast<size_t>(other)]);
    }
  }
  return {std::move(owner_E), placement.num_ranks()};
}

inline train::HomeChanges random_changes(const spec::ModelSpec& spec, const train::Weights& weights, Random& random) {
  train::HomeChanges changes;
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.experts(layer) > 0) changes.placement_L.emplace(layer, random_homes(spec, layer, weights.placement(layer), random));
  }
  return changes;
}

}  // namespace moiety::test
