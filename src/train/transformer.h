// The model with gradients: the twin of model/'s forward pass, from the same ModelSpec and the same weight names.
// Decoder-only, pre-norm, rotary positions, grouped-query attention, SwiGLU experts chosen by a RouterRule.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "moe/load.h"
#include "train/moe_block.h"

namespace moiety::train {

struct Losses {
  Tensor total;  // what is minimised
  float cross_entropy = 0, balance = 0, z = 0;  // mean nats a token; means over layers
  float entropy = 0;                            // the same, if it has a weight
  float spread = 0;                             // the entropy of experts' mean probabilities, mean over layers
  float consistency = 0;                        // of two passes (train/consistency.h); 0 if there was only one
  std::vector<float> nats_T;                    // of each token with a target, else 0, with a graph; empty: another stage knows
  bool overflowed = false;  // experts would have received more than the budget: nothing else here means anything
};

struct LossWeights {
  float balance = 0, z = 0, entropy = 0;
  float consistency = 0;  // above 0: the batch is passed twice, and experts of chance are drawn anew
  float cross_entropy = 1;
  float spread = 0;
  bool is_part_of_two = false;  // of a batch that is passed twice, with no target of its own, maybe: ranks make the same passes

  bool passes_twice() const { return consistency > 0 || is_part_of_two; }

  // For a part of a pass, with so much of its tokens and of its targets: the parts' losses add up to the pass's.
  LossWeights of_part(float tokens, float targets) const {
    return {tokens * balance, tokens * z, tokens * entropy, targets * consistency, targets * cross_entropy, tokens * spread, passes_twice()};
  }
};

// What a layer hands on to those after it: the hidden states [T, D] first, and beside them [T, n] whatever it or layers before have left:
// logits for a gating residual, momentum and its squares, what gates carry. Undefined where this model has no such thing.
using Handed = tensor_list;

// A pass through some neighbouring layers, which has its way back before it. The first ones begin with tokens; the last ones end with the
// loss.
struct LayersPass {
  LayerRange layers;
  Handed came, left;
  Losses losses;  // shares of the whole model's: those of all its layers add up
  Routes routes;  // of all routers of the model; null: of other layers
};

class Transformer {
 public:
  // `weights` must outlive this and fit `spec`. Routers compute in f32 whatever the mode. Where `weights` are those of one of several
  // ranks that share experts or dense matrices, all of them make the same passes, each with its own batch, which may be empty.
  // `tensor`: those that share dense matrices.
  Transformer(const spec::ModelSpec& spec, Weights& weights, const Mode& mode = {}, const ExpertRanks* ranks = nullptr,
              comm::Group* tensor = nullptr);

  // Without a graph (torch::NoGradGuard) experts are chosen as when the model is served.
  Losses forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes = nullptr, const PassOrder& order = {});
  // Through these layers alone, `came` being what the layer before has left: tensors of handed_widths(layers.first). Of other layers no
  // weights are looked at. Not twice (LossWeights::consistency).
  LayersPass forward(LayerRange layers, const Batch& batch, Handed came, const LossWeights& loss_weights, const PassOrder& order);
  // Adds the gradients of `share` times the loss and, by dleft, of what came of what was left; returns those of what came, zeros for what
  // nothing flowed back to.
  Handed backward(LayersPass pass, const Batch& batch, const Handed& dleft, float share);
  // What comes to this layer from the one before, by the columns of each; 0: not there.
  std::vector<int64_t> handed_widths(int layer) const;

  // Only who visits whom, without a graph.
  Routes decide(const Batch& batch, const PassOrder& order);
  // [T, V], without a graph.
  Tensor logits(const Batch& batch, Routes* routes = nullptr);

  const spec::ModelSpec& spec() const { return spec_; }

 private:
  Losses forward_twice(const Batch& batch, const LossWeights& loss_weights, Routes* routes, const PassOrder& order);
  RoutedLayers routed_layers(const Batch& batch, const PassOrder& order) const;
  Tensor hidden_states(const Batch& batch, RoutedLayers& routed);
  void begin(const Batch& batch, RoutedLayers& routed);
  Tensor enter(const Batch& batch, RoutedLayers& routed);
  Tensor run_layers(LayerRange layers, Tensor x_TD, const Batch& batch, RoutedLayers& routed);
  Tensor take_over(const Handed& came, const Batch& batch, RoutedLayers& routed);
  Handed hand_on(int layer, const Tensor& x_TD, const RoutedLayers& routed) const;
  Losses losses_of(const Tensor& cross_entropy, const RoutedLayers& routed, const LossWeights& weights) const;
  Tensor mean_of(const tensor_list& losses) const;
  Tensor run_layer(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed);
  Tensor run_layer_to_recompute(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed);
  Tensor attention_block(int layer, const Tensor& x_TD, const std::vector<Segment>& segments, RoutedLayers& routed);
  Tensor feed_forward_block(int layer, const Tensor& x_TD, RoutedLayers& routed);
  WeightMatrix head();

  spec::ModelSpec spec_;
  Weights& weights_;
  Mode mode_;
  RotaryTable rotary_;  // for the longest segment so far
  Attention attention_;
  Gates gates_;
  MoeBlock moe_block_;
  comm::Group* tensor_;
  Tensor anchor_;
};

// A model from config.json and model.safetensors (a checkpoint, or any folder with our names).
struct LoadedModel {
  spec::ModelSpec spec;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<Transformer> transformer;
};
LoadedModel load_model(const std::filesystem::path& folder);

}  // namespace moiety::train
