// The mixture-of-experts block with gradients: route, dispatch, experts, combine, shared experts; in a chain several times over.
// The twin of model/moe_layer.
#pragma once

#include <memory>
#include <vector>

#include "train/functions.h"

namespace moiety::train {

// Routing of one forward pass, by MoE layer and, in each, by iteration.
using Routes = std::vector<std::shared_ptr<const RouterSaved>>;

// Of each Route, in their order.
struct RouterPlace {
  int layer, iteration;
};
std::vector<RouterPlace> routers_of(const spec::ModelSpec& spec);

// What the MoE layers of a forward pass leave for each other, and beside their outputs.
struct RoutedLayers {
  Routes routes;
  tensor_list balance_losses, z_losses;  // of attention's experts, too
  Tensor momentum_TD, squares_TD;        // spec::Momentum's p and v; undefined before the first layer
};

class MoeBlock {
 public:
  // What it refers to must outlive it.
  MoeBlock(const spec::ModelSpec& spec, Weights& weights, const Mode& mode) : spec_(spec), weights_(weights), mode_(mode) {}

  // stream_TD + what the block adds for its norm's x_TD.
  Tensor forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed);

 private:
  Tensor add_block(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Tensor add_iteration(int layer, int iteration, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Tensor add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD);
  Tensor add_mixed(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed);
  Routed choose(int layer, int iteration, const Tensor& x_TD, RoutedLayers& routed);
  ExpertWeights experts(int layer);
  Tensor with_momentum(const Tensor& y_TD, RoutedLayers& routed) const;

  const spec::ModelSpec& spec_;
  Weights& weights_;
  Mode mode_;
};

}  // namespace moiety::train
