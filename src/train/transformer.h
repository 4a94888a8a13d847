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
};

struct LossWeights {
  float balance = 0, z = 0;
};

class Transformer {
 public:
  // `weights` must outlive this and fit `spec`. Routers compute in f32 whatever the mode.
  Transformer(const spec::ModelSpec& spec, Weights& weights, const Mode& mode = {});

  Losses forward(const Batch& batch, const LossWeights& loss_weights, Routes* routes = nullptr);
  // [T, V], without a graph.
  Tensor logits(const Batch& batch, Routes* routes = nullptr);

  const spec::ModelSpec& spec() const { return spec_; }

 private:
  Tensor hidden_states(const Batch& batch, RoutedLayers& routed);
  Tensor attention_block(int layer, const Tensor& x_TD, const Batch& batch, RoutedLayers& routed);
  Tensor feed_forward_block(int layer, const Tensor& x_TD, RoutedLayers& routed);
  WeightMatrix head();

  spec::ModelSpec spec_;
  Weights& weights_;
  Mode mode_;
  RotaryTable rotary_;  // for the longest segment so far
  Attention attention_;
  MoeBlock moe_block_;
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
