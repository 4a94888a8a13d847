#include "model/norm.h"

#include "model/elementwise.h"

namespace moiety::model {

Matrix<float> norm(ThreadPool& threads, MatrixView<const float> x_TD, const NormWeights& weights, float eps) {
  auto out_TD = Matrix<float>::uninitialised(x_TD.rows(), x_TD.cols());
  threads.parallel_for(x_TD.rows(), [&](size_t t) {
    if (weights.bias_D.empty()) {
      rms_norm(x_TD.row(t), weights.weight_D, eps, out_TD.row(t));
    } else {
      layer_norm(x_TD.row(t), weights.weight_D, weights.bias_D, eps, out_TD.row(t));
    }
  });
  return out_TD;
}

}  // namespace moiety::model
