// Where a layer's router logits come from at inference (spec::Gate), and what gates hand from layer to layer of one step.
// All in f32 whatever the arithmetic: a choice is not rounded.
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/gating_residual.h"
#include "model/step.h"
#include "model/weights.h"
#include "spec/model_spec.h"

namespace moiety::model {

// The gates of one step, to be asked layer by layer.
class StepGate {
 public:
  // x_TD: the tokens' embeddings. A router of its own sees them, and the step's caches, here. All must outlive it.
  StepGate(const kernel::Compute& compute, const spec::ModelSpec& spec, const Weights& weights, const Step& step,
           MatrixView<const float> x_TD);

  // Logits [T, C] of a layer, for its normed input. To be asked once for each MoE layer, in their order.
  Matrix<float> logits(int layer, MatrixView<const float> x_TD);

  // Whether the logits of a layer to come are certain already.
  bool knows(int layer) const;
  Matrix<float> known_logits(int layer) const;
  // What they would be if its input were x_TD, for one that is not known.
  Matrix<float> likely_logits(int layer, MatrixView<const float> x_TD) const;

 private:
  const MoeWeights& layer(int number) const { return weights_.layers[static_cast<size_t>(number)].moe; }
  Matrix<float> linear(MatrixView<const float> x, const kernel::WeightView& w) const;
  Matrix<float> with_bias(Matrix<float> logits_TE, int layer) const;
  Matrix<float> own_logits(int layer, MatrixView<const float> x_TD) const;
  Matrix<float> cosine(const MoeWeights& w, MatrixView<const float> x_TD) const;
  Matrix<float> tree(int layer, MatrixView<const float> x_TD) const;
  Matrix<float> chosen(int layer) const;
  Matrix<float> next_state(const MoeWeights& w, MatrixView<const float> x_TD) const;
  Matrix<float> run_own_router(MatrixView<const float> x_TD) const;
  int layer_after(int layer) const;

  const kernel::Compute& compute_;
  const spec::ModelSpec& spec_;
  const Weights& weights_;
  const Step& step_;
  spec::Gate gate_;
  Matrix<float> state_TG_;  // Recurrent: after the last layer asked; Decoupled: what all logits are made of
  RouterState residual_;    // if layers' logits have a gating residual
  int ahead_layer_ = -1;    // Ahead: the layer whose logits are there already
  Matrix<float> ahead_TE_;
};

}  // namespace moiety::model
