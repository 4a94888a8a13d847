#include "train/experts.h"

#include <algorithm>
#include <numeric>

#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

// Rows an expert works on at once: their inputs, hidden values and results stay in the second-level cache.
constexpr size_t kTile = 256;

using View = MatrixView<float>;
using ConstView = MatrixView<const float>;

// Scratch of one thread, kept between calls.
View scratch(std::vector<float>& memory, size_t rows, size_t cols) {
  if (memory.size() < rows * cols) memory.resize(rows * cols);
  return {memory.data(), rows, cols};
}

void gather(ConstView from_TD, std::span<const int32_t> tokens, View to_RD) {
  for (size_t r = 0; r < tokens.size(); ++r) std::ranges::copy(from_TD.row(tokens[r]), to_RD.row(r).begin());
}

// Busy experts first, so that no thread is left alone with a big one at the end.
std::vector<size_t> largest_first(const moe::DispatchPlan& plan) {
  std::vector<size_t> order(plan.num_experts());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return plan.rows_of(static_cast<int>(a)) > plan.rows_of(static_cast<int>(b));
  });
  return order;
}

template <class Body>
void for_each_tile(const moe::DispatchPlan& plan, size_t expert, const Body& body) {
  const size_t end = plan.begin_E1[expert + 1];
  for (size_t row = plan.begin_E1[expert]; row < end; row += kTile) body(row, std::min(kTile, end - row));
}

// to_TD[t] += sum over the token's visits of from_ND[row] (times the visit's weight), in the order of its visits: the
// same sum in every run.
void combine(const moe::DispatchPlan& plan, ConstView from_ND, std::span<const float> mix_N, View to_TD) {
  const size_t per_token = plan.row_of_visit_N.size() / std::max<size_t>(1, to_TD.rows());
  parallel_ranges(to_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (size_t visit = t * per_token; visit < (t + 1) * per_token; ++visit) {
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

ExpertsSaved experts_forward(const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                             std::span<const float> mix_N, ConstView x_TD, View out_TD) {
  const size_t rows = plan.num_rows(), width = weights.width, hidden = weights.hidden;
  ExpertsSaved saved{Buffer(rows, hidden), Buffer(rows, hidden)};
  Buffer y_ND(rows, width);
  const std::vector<size_t> order = largest_first(plan);

  parallel_tasks(order.size(), [&](size_t i) {
    thread_local std::vector<float> x_memory, hidden_memory;
    const size_t e = order[i];
    for_each_tile(plan, e, [&](size_t row, size_t count) {
      const View x_RD = scratch(x_memory, count, width);
      gather(x_TD, std::span(plan.token_of_row_N).subspan(row, count), x_RD);
      const View gate_RF = saved.gate_NF.view().middle_rows(row, count);
      const View up_RF = saved.up_NF.view().middle_rows(row, count);
      multiply_nt(x_RD, weights.gate_FD(e), gate_RF);
      multiply_nt(x_RD, weights.up_FD(e), up_RF);
      const View hidden_RF = scratch(hidden_memory, count, hidden);
      silu_mul(gate_RF.flat(), up_RF.flat(), hidden_RF.flat());
      multiply_nt(hidden_RF, weights.down_DF(e), y_ND.view().middle_rows(row, count));
    });
  });
  combine(plan, y_ND.view(), mix_N, out_TD);
  return saved;
}

void experts_backward(const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                      std::span<const float> mix_N, ConstView x_TD, const ExpertsSaved& saved, ConstView dout_TD,
                      View dx_TD, std::span<float> dmix_N, const ExpertStack<float>& gradients) {
  const size_t rows = plan.num_rows(), width = weights.width, hidden = weights.hidden;
  Buffer dx_ND(rows, width);
  const std::vector<size_t> order = largest_first(plan);

  parallel_tasks(order.size(), [&](size_t i) {
    thread_local std::vector<float> x_memory, dout_memory, dhidden_memory, dgate_memory, dup_memory, hidden_memory;
    const size_t e = order[i];
    for_each_tile(plan, e, [&](size_t row, size_t count) {
      const auto tokens = std::span(plan.token_of_row_N).subspan(row, count);
      const View dout_RD = scratch(dout_memory, count, width);
      gather(dout_TD, tokens, dout_RD);
      // The mixing weight is left out here and put in below, so that one product serves its gradient too:
      // d(weight) = <dout, y> = <dout * down, hidden>.
      const View dhidden_RF = scratch(dhidden_memory, count, hidden);
      multiply_nn(dout_RD, weights.down_DF(e), dhidden_RF);

      const View dgate_RF = scratch(dgate_memory, count, hidden);
      const View dup_RF = scratch(dup_memory, count, hidden);
      const View mixed_RF = scratch(hidden_memory, count, hidden);
      for (size_t r = 0; r < count; ++r) {
        const int32_t visit = plan.visit_of_row_N[row + r];
        dmix_N[visit] = silu_mul_backward(dhidden_RF.row(r), saved.gate_NF.row(row + r), saved.up_NF.row(row + r),
                                          mix_N[visit], dgate_RF.row(r), dup_RF.row(r), mixed_RF.row(r));
      }
      multiply_tn(dout_RD, mixed_RF, gradients.down_DF(e), Into::Add);

      const View x_RD = scratch(x_memory, count, width);
      gather(x_TD, tokens, x_RD);
      multiply_tn(dgate_RF, x_RD, gradients.gate_FD(e), Into::Add);
      multiply_tn(dup_RF, x_RD, gradients.up_FD(e), Into::Add);
      const View dx_RD = dx_ND.view().middle_rows(row, count);
      multiply_nn(dgate_RF, weights.gate_FD(e), dx_RD);
      multiply_nn(dup_RF, weights.up_FD(e), dx_RD, Into::Add);
    });
  });
  combine(plan, dx_ND.view(), {}, dx_TD);
}

}  // namespace moiety::train
