// Where a layer's router logits come from, with gradients: the twin of model/gate.h. Gradients of weights are added to the
// Weights' own memory; all in f32.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "train/batch.h"
#include "train/functions.h"

namespace moiety::train {

// Of the angles between rows of down_TG and the experts' embeddings, over the rule's temperature, which a weight may scale.
Tensor cosine_logits(const spec::RouterRule& rule, const Tensor& down_TG, const WeightMatrix& router_EG,
                     const std::optional<WeightVector>& temperature);

// A GRU's next state (Cho et al. 2014); in_T3G and back_T3G: its input and its state, multiplied with rows of reset, update and
// candidate. Keeps 3 numbers of each of the state's, for the way back.
Tensor gru_step(const Tensor& in_T3G, const Tensor& back_T3G, const Tensor& state_TG, const WeightVector& input_bias,
                const WeightVector& state_bias);

// moe::tree_logits of each token.
Tensor tree_logits(const spec::RouterRule& rule, const Tensor& decisions, const Tensor& leaves);

// The gates of a model, asked layer by layer.
class Gates {
 public:
  // Both must outlive it.
  Gates(const spec::ModelSpec& spec, Weights& weights) : spec_(spec), weights_(weights) {}

  // What gates leave for later layers; undefined where they leave nothing.
  struct State {
    Tensor state_TG;  // Recurrent: after the last layer; Decoupled: of all, which own_router() makes
    Tensor ahead_TE;  // Ahead: logits of the next MoE layer
  };
  // A new forward pass, or a part of one, with what the layers before have left.
  void begin(const Batch& batch, State came = {});
  const State& state() const { return state_; }
  // What a decoupled router makes of what its attention has seen.
  Tensor own_router(const Tensor& seen_TD);
  // Logits [T, E] of a layer, for its normed input. To be asked once for each MoE layer, in their order.
  // A linear gate that isn't `trained` leaves no gradient.
  Tensor logits(int layer, const Tensor& x_TD, bool trained = true);

 private:
  Tensor linear_logits(int layer, const Tensor& x, bool trained = true);
  Tensor cosine(int layer, const Tensor& x_TD);
  Tensor recurrent(int layer, const Tensor& x_TD);
  Tensor ahead(int layer, const Tensor& x_TD);
  Tensor chosen(int layer);

  const spec::ModelSpec& spec_;
  Weights& weights_;
  std::map<int, std::vector<int32_t>> hashed_;  // by layer, made when it is first asked for

  // Of the current pass:
  std::vector<int32_t> token_T_;
  std::vector<size_t> position_T_;
  uint64_t draw_ = 0;
  State state_;
};

}  // namespace moiety::train
