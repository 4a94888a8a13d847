#include "model/momentum.h"

#include <cmath>

namespace moiety::model {

void LayerMomentum::turn(ThreadPool& threads, MatrixView<float> y_TD) {
  if (spec_.kind == spec::Momentum::None) return;
  const bool is_adam = spec_.kind == spec::Momentum::Adam;
  if (p_TD_.rows() == 0) p_TD_ = Matrix<float>(y_TD.rows(), y_TD.cols());
  if (is_adam && v_TD_.rows() == 0) v_TD_ = Matrix<float>(y_TD.rows(), y_TD.cols());
  threads.parallel_for(y_TD.rows(), [&](size_t t) {
    const auto y_D = y_TD.row(t), p_D = p_TD_.row(t);
    if (!is_adam) {
      for (size_t d = 0; d < y_D.size(); ++d) y_D[d] = spec_.step * (p_D[d] = spec_.decay * p_D[d] + y_D[d]);
      return;
    }
    const auto v_D = v_TD_.row(t);
    for (size_t d = 0; d < y_D.size(); ++d) {
      p_D[d] = spec_.decay * p_D[d] + (1 - spec_.decay) * y_D[d];
      v_D[d] = spec_.square_decay * v_D[d] + (1 - spec_.square_decay) * y_D[d] * y_D[d];
      y_D[d] = spec_.step * p_D[d] / std::sqrt(v_D[d] + spec_.eps);
    }
  });
}

}  // namespace moiety::model
