// The mixture-of-experts block with gradients: route, dispatch, experts, combine, shared experts. The twin of model/moe_layer.
#pragma once

#include <memory>
#include <vector>

#include "train/functions.h"
#include "train/gate.h"
#include "train/pass_order.h"

namespace moiety::train {

// What the MoE layers of a pass are told, and what they leave beside their outputs, layer by layer.
struct RoutedLayers {
  const PassOrder& order;
  Choosing choosing;
  size_t sequence = 0;  // Batch::sequence
  bool with_entropy = false;
  size_t first = 0;         // which MoE layer of the model comes first here
  Routes decided;           // of layers that run again: nothing is chosen a second time
  Routes routes;
  tensor_list balance_losses, z_losses, entropy_losses;
  Tensor logits_TC;         // of the layer before, if logits have a gating residual
  bool overflowed = false;  // experts would have received more than the budget: the pass ends
};

class MoeBlock {
 public:
  // What it refers to must outlive it.
  MoeBlock(const spec::ModelSpec& spec, Weights& weights, const Mode& mode, Gates& gates)
      : spec_(spec), weights_(weights), mode_(mode), gates_(gates) {}

  // stream_TD + the block's output for its norm's x_TD; undefined after an overflow.
  Tensor forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed);

 private:
  Routed choose(int layer, const Tensor& x_TD, RoutedLayers& routed);
  Tensor router_logits(int layer, const Tensor& x_TD, RoutedLayers& routed);
  ExpertWeights experts(int layer);
  Tensor add_free(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Routed& chosen);
  Tensor add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD);

  const spec::ModelSpec& spec_;
  Weights& weights_;
  Mode mode_;
  Gates& gates_;
};

}  // namespace moiety::train
