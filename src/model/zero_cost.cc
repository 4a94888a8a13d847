#include "model/zero_cost.h"

#include "model/elementwise.h"

namespace moiety::model {

void add_zero_cost(const kernel::Compute& compute, const spec::RouterRule& rule, const MoeWeights& weights,
                   const moe::Visits& visits, MatrixView<const float> x_TD, MatrixView<float> out_TD) {
  if (rule.copy_experts + rule.constant_experts == 0 || visits.experts_N.empty()) return;
  auto mix_logits = Matrix<float>::uninitialised(x_TD.rows(), 2 * static_cast<size_t>(rule.constant_experts));
  if (rule.constant_experts > 0) kernel::exact_linear(compute, x_TD, weights.constant_mix, mix_logits.view());

  compute.threads.parallel_for(x_TD.rows(), [&](size_t t) {
    const auto x = x_TD.row(t);
    const auto out = out_TD.row(t);
    for (int n = visits.begin_T1[t]; n < visits.begin_T1[t + 1]; ++n) {
      const int choice = visits.experts_N[n];
      const float weight = visits.weights_N[n];
      const spec::ZeroCost kind = rule.kind_of(choice);
      if (kind == spec::ZeroCost::Copy) compute.kernels.add_scaled(weight, x.data(), out.data(), out.size());
      if (kind != spec::ZeroCost::Constant) continue;
      const size_t c = static_cast<size_t>(choice - rule.first_constant());
      const float share_of_x = sigmoid(mix_logits.row(t)[2 * c] - mix_logits.row(t)[2 * c + 1]);  // a softmax of two
      compute.kernels.add_scaled(weight * share_of_x, x.data(), out.data(), out.size());
      compute.kernels.add_scaled(weight * (1 - share_of_x), weights.constant_vectors.data() + c * x.size(), out.data(), out.size());
    }
  });
}

}  // namespace moiety::model
