#include "train/experts.h"

#include <algorithm>

#include "train/buffer.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

// to_TD[t] += sum over the token's visits of from_ND[row] (times the visit's weight), in the order of its visits: the
// same sum in every run.
void combine(const moe::DispatchPlan& plan, MatrixView<const float> from_ND, std::span<const float> mix_N, MatrixView<float> to_TD) {
  parallel_ranges(to_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (int32_t visit = plan.first_visit_T1[t]; visit < plan.first_visit_T1[t + 1]; ++visit) {
        if (plan.row_of_visit_N[visit] == moe::kNoRow) continue;
        const auto row = from_ND.row(plan.row_of_visit_N[visit]);
        if (mix_N.empty()) {
          add(row, to_TD.row(t));
        } else {
          add_scaled(mix_N[visit], row, to_TD.row(t));
        }
      }
    }
  });
}

}  // namespace

void experts_forward(const LayerExperts& experts, const moe::DispatchPlan& plan, std::span<const float> mix_N,
                     MatrixView<const float> x_TD, MatrixView<float> out_TD) {
  Buffer y_ND(static_cast<size_t>(plan.num_rows()), x_TD.cols());
  for (const auto& kind : experts) kind->forward(plan, x_TD, y_ND.view());
  combine(plan, y_ND.view(), mix_N, out_TD);
}

void experts_backward(const LayerExperts& experts, const moe::DispatchPlan& plan, std::span<const float> mix_N,
                      MatrixView<const float> x_TD, MatrixView<const float> dout_TD, MatrixView<float> dx_TD, std::span<float> dmix_N) {
  Buffer dx_ND(static_cast<size_t>(plan.num_rows()), x_TD.cols());
  std::ranges::fill(dmix_N, 0.0f);
  for (const auto& kind : experts) kind->backward(plan, mix_N, x_TD, dout_TD, dx_ND.view(), dmix_N);
  combine(plan, dx_ND.view(), {}, dx_TD);
}

}  // namespace moiety::train
