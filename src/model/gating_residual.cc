#include "model/gating_residual.h"

#include "model/elementwise.h"

namespace moiety::model {

void add_gating_residual(const kernel::Compute& compute, const MoeWeights& weights, RouterState& state, MatrixView<float> logits_TC) {
  if (!weights.gating_residual_CC.empty()) {
    auto residual_TC = Matrix<float>::uninitialised(logits_TC.rows(), logits_TC.cols());
    kernel::exact_linear(compute, {state.logits_TC.data(), logits_TC.rows(), logits_TC.cols()}, weights.gating_residual_CC, residual_TC.view());
    add(residual_TC.flat(), logits_TC.flat());
  }
  state.logits_TC.assign(logits_TC.flat().begin(), logits_TC.flat().end());
}

}  // namespace moiety::model
