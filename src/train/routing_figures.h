// What can be said of the routing of a step, or of held-out text: load, entropy, who was turned away. For metrics.jsonl, whose
// fields docs/training.md lists.
#pragma once

#include <optional>
#include <vector>

#include "base/json.h"
#include "moe/load.h"
#include "train/router.h"

namespace moiety::train {

class RoutingFigures {
 public:
  // The experts of each layer; in chains of experts each iteration counts as a layer of its own, here and below.
  explicit RoutingFigures(const std::vector<int>& experts_L);

  // A pass's routing, of those layers that are here. The routers' entropy, which takes a logarithm a score, is added on wish.
  void add(const Routes& routes, bool with_entropy);
  void add(const RoutingFigures& other);
  // Of all ranks together.
  void sum(const SumOverRanks& sum_over_ranks);

  const moe::Load& load() const { return load_; }  // every visit that was wanted
  double dropped_share() const;                    // of all visits: turned away by capacity
  // Of all passes together, the mean over layers: what the Global scope minimises.
  double balance_loss() const;

  // The first layer some of whose logits were no numbers.
  std::optional<size_t> no_numbers() const;

  // A list of objects, one a layer: max_over_mean, entropy, idle, dropped, z_loss, and router_entropy if it was added.
  Json by_layer() const;
  // [layer][expert]
  Json visits() const;

 private:
  struct Layer {
    int experts = 0;
    std::vector<double> wanted_E;
    double tokens = 0, dropped = 0;
    double entropy = 0, entropy_tokens = 0;  // sum over entropy_tokens tokens
    double z = 0;  // sum over tokens of the squared logarithm of their logits' exponentials' sum
  };
  std::span<const int64_t> visits_of(size_t layer) const;

  moe::Load load_;
  std::vector<Layer> layers_;
};

// specialisation of each layer between the figures of domains: moe::specialisation.
std::vector<double> specialisation_by_layer(const std::vector<const RoutingFigures*>& domains);

}  // namespace moiety::train
