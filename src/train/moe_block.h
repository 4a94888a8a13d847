// The mixture-of-experts block with gradients: route, dispatch, experts, combine, shared experts. The twin of model/moe_layer.
#pragma once

#include <memory>
#include <vector>

#include "train/functions.h"

namespace moiety::train {

// Routing of one forward pass, by MoE layer.
using Routes = std::vector<std::shared_ptr<const RouterSaved>>;

// What the MoE layers of a forward pass leave beside their outputs, layer by layer.
struct RoutedLayers {
  Routes routes;
  tensor_list balance_losses, z_losses;
  int round_tokens = 0;  // for moe::round_tokens
  Routes decided;        // of layers that run again: nothing is chosen a second time
};

class MoeBlock {
 public:
  // What it refers to must outlive it.
  MoeBlock(const spec::ModelSpec& spec, Weights& weights, const Mode& mode) : spec_(spec), weights_(weights), mode_(mode) {}

  // stream_TD + the block's output for its norm's x_TD.
  Tensor forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed);

 private:
  Routed choose(int layer, const Tensor& x_TD, RoutedLayers& routed);
  ExpertWeights experts(int layer);
  Tensor add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD);

  const spec::ModelSpec& spec_;
  Weights& weights_;
  Mode mode_;
};

}  // namespace moiety::train
