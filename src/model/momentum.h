// Momentum from MoE layer to MoE layer (spec::Momentum), of the tokens of one step: it begins anew with every step, as it goes
// from layer to layer and never from token to token.
#pragma once

#include "base/matrix.h"
#include "base/thread_pool.h"
#include "spec/model_spec.h"

namespace moiety::model {

class LayerMomentum {
 public:
  explicit LayerMomentum(const spec::MomentumSpec& spec) : spec_(spec) {}

  // Turns what the next MoE layer gives into what it adds to the stream.
  void turn(ThreadPool& threads, MatrixView<float> y_TD);

 private:
  spec::MomentumSpec spec_;
  Matrix<float> p_TD_, v_TD_;  // empty before the first layer
};

}  // namespace moiety::model
