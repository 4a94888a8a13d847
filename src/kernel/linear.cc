#include "kernel/linear.h"

#include <algorithm>
#include <cassert>

namespace moiety::kernel {

size_t rows_per_task(size_t rows, size_t threads) {
  // About four tasks a thread, so that a thread that was interrupted holds up little; a multiple of every tile.
  const size_t even = rows / (4 * threads);
  return std::clamp<size_t>(even / 8 * 8, 8, 64);
}

void linear(const Compute& compute, MatrixView<const float> x_TD, const WeightView& w_ND, MatrixView<float> y_TN) {
  assert(x_TD.cols() == w_ND.cols && y_TN.cols() == w_ND.rows && x_TD.rows() == y_TN.rows());
  const size_t step = rows_per_task(w_ND.rows, static_cast<size_t>(compute.threads.size()));
  compute.threads.parallel_for((w_ND.rows + step - 1) / step, [&](size_t task) {
    const size_t first = task * step;
    compute.kernels.linear(x_TD.data(), x_TD.stride(), x_TD.rows(), w_ND, first, std::min(step, w_ND.rows - first),
                           y_TN.data() + first, y_TN.stride());
  });
}

}  // namespace moiety::kernel
