// The mixture-of-experts block with gradients: route, dispatch, experts, combine, shared experts; in a chain several times over.
// The twin of model/moe_layer.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "train/feed_forward_experts.h"
#include "train/functions.h"
#include "train/gate.h"
#include "train/pass_order.h"
#include "train/tensor_tokens.h"

namespace moiety::train {

// Of each Route, in their order: by MoE layer and, in each, by iteration.
struct RouterPlace {
  int layer, iteration;
};
std::vector<RouterPlace> routers_of(const spec::ModelSpec& spec);
std::vector<int> experts_by_router(const spec::ModelSpec& spec);

// What the MoE layers of a pass are told, what they leave for each other, and what beside their outputs.
struct RoutedLayers {
  const PassOrder& order;
  Choosing choosing;
  size_t sequence = 0;  // Batch::sequence
  bool with_entropy = false;
  size_t first = 0;         // which router of the model comes first here
  Routes decided;           // of layers that run again: nothing is chosen a second time
  Routes routes;
  std::shared_ptr<const Ring> ring = nullptr;  // Batch::ring
  std::shared_ptr<const TensorTokens> together = nullptr;  // of ranks that share dense matrices; null: this one has them whole
  std::span<const Segment> segments = {};  // documents, of which each is by itself; of the layer that runs
  tensor_list balance_losses, z_losses, entropy_losses, spread_losses;  // of attention's experts, too
  Tensor logits_TC;                // of the layer before, if logits have a gating residual
  Tensor momentum_TD, squares_TD;  // spec::Momentum's p and v; undefined before the first layer
  bool overflowed = false;         // experts would have received more than the budget: the pass ends

  // Documents of all tokens that come together, where this rank's own are `mine`.
  const std::vector<Segment>& seen(const std::vector<Segment>& mine) const { return together == nullptr ? mine : together->segments; }
};

class MoeBlock {
 public:
  // What it refers to must outlive it. `ranks`: those that share the experts; nullptr: all are here.
  MoeBlock(const spec::ModelSpec& spec, Weights& weights, const Mode& mode, Gates& gates, const ExpertRanks* ranks)
      : spec_(spec), weights_(weights), mode_(mode), gates_(gates), ranks_(ranks) {}

  bool has_momentum() const;
  // stream_TD + what the block adds for its norm's x_TD; undefined after an overflow.
  Tensor forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed);

 private:
  Tensor add_block(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Tensor add_iteration(int layer, int iteration, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Tensor add_free(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Routed& chosen);
  Tensor add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD, const RoutedLayers& routed);
  Tensor add_mixed(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Routed choose(int layer, int iteration, const Tensor& x_TD, RoutedLayers& routed);
  Tensor router_logits(int layer, int iteration, const Tensor& x_TD, const spec::RouterRule& rule, RoutedLayers& routed);
  Tensor add_routed(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Permuted& visits, const RoutedLayers& routed);
  Tensor add_visits(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Permuted& visits, const RoutedLayers& routed);
  MakeExperts experts_here(int layer);
  Lendable lendable(int layer, const Permuted& visits);
  ExpertWeights latent_feed_forwards(int layer);
  ExpertWeights feed_forwards(int layer);
  std::shared_ptr<ExpertsOfKind> grus(int layer, std::span<const Segment> segments);
  Tensor with_momentum(const Tensor& y_TD, RoutedLayers& routed) const;

  const spec::ModelSpec& spec_;
  Weights& weights_;
  Mode mode_;
  Gates& gates_;
  Matrix<float> frames_;  // of clusters; drawn when they are first wanted
  const ExpertRanks* ranks_;
};

}  // namespace moiety::train
