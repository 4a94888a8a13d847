#include "model/moe_layer.h"

#include <algorithm>

#include "model/elementwise.h"
#include "moe/dispatch_plan.h"

namespace moiety::model {
namespace {

using kernel::Compute;
using moe::DispatchPlan;
using moe::Routing;

// A piece of grouped work: some output rows of one expert's matrix, for all of the expert's tokens.
struct ExpertTask {
  int expert;
  size_t first, rows;
};

// One flat list over all experts that have work, so that threads stay busy however uneven the load is. The busiest experts
// come first: what is left at the end is small.
std::vector<ExpertTask> expert_tasks(const DispatchPlan& plan, size_t matrix_rows, size_t threads) {
  std::vector<int> busy;
  for (int e = 0; e < plan.num_experts(); ++e) {
    if (plan.rows_of(e) > 0) busy.push_back(e);
  }
  std::stable_sort(busy.begin(), busy.end(), [&](int a, int b) { return plan.rows_of(a) > plan.rows_of(b); });

  const size_t step = kernel::rows_per_task(matrix_rows * std::max<size_t>(1, busy.size()), threads);
  std::vector<ExpertTask> tasks;
  for (const int expert : busy) {
    for (size_t first = 0; first < matrix_rows; first += step) {
      tasks.push_back({expert, first, std::min(step, matrix_rows - first)});
    }
  }
  return tasks;
}

// hidden = activation(gate x, up x) for rows [first, first + rows) of the matrices; `scratch` is of hidden's size.
void gate_and_up(const kernel::Kernels& kernels, const FeedForwardWeights& w, spec::Activation activation,
                 MatrixView<const float> x_RD, size_t first, size_t rows, MatrixView<float> hidden_RF,
                 MatrixView<float> scratch_RF) {
  kernels.linear(x_RD.data(), x_RD.stride(), x_RD.rows(), w.gate, first, rows, hidden_RF.data() + first,
                 hidden_RF.stride());
  kernels.linear(x_RD.data(), x_RD.stride(), x_RD.rows(), w.up, first, rows, scratch_RF.data() + first,
                 scratch_RF.stride());
  for (size_t r = 0; r < x_RD.rows(); ++r) {
    const auto gate = hidden_RF.row(r).subspan(first, rows), up = scratch_RF.row(r).subspan(first, rows);
    if (!w.gate_bias.empty()) {
      add(std::span(w.gate_bias).subspan(first, rows), gate);
      add(std::span(w.up_bias).subspan(first, rows), up);
    }
    for (size_t f = 0; f < rows; ++f) gate[f] = activate(activation, gate[f], up[f]);
  }
}

// The tokens' activations, a row a visit, sorted by expert.
Matrix<float> dispatch(const Compute& compute, const DispatchPlan& plan, MatrixView<const float> x_TD) {
  Matrix<float> x_ND(static_cast<size_t>(plan.num_rows()), x_TD.cols());
  compute.threads.parallel_for(x_ND.rows(), [&](size_t row) {
    const auto token = x_TD.row(static_cast<size_t>(plan.token_of_row_N[row]));
    std::copy(token.begin(), token.end(), x_ND.row(row).begin());
  });
  return x_ND;
}

// Every expert on its rows.
Matrix<float> run_experts(const Compute& compute, const DispatchPlan& plan, spec::Activation activation,
                          const std::vector<FeedForwardWeights>& experts_E, MatrixView<const float> x_ND) {
  const size_t rows = x_ND.rows(), width = x_ND.cols(), hidden = experts_E[0].gate.rows;
  const size_t threads = static_cast<size_t>(compute.threads.size());
  const auto of_expert = [&](auto view, int e) {
    return view.middle_rows(static_cast<size_t>(plan.begin_E1[e]), static_cast<size_t>(plan.rows_of(e)));
  };

  Matrix<float> hidden_NF(rows, hidden), scratch_NF(rows, hidden);
  const auto up_tasks = expert_tasks(plan, hidden, threads);
  compute.threads.parallel_for(up_tasks.size(), [&](size_t i) {
    const auto [e, first, count] = up_tasks[i];
    gate_and_up(compute.kernels, experts_E[e], activation, of_expert(x_ND, e), first, count,
                of_expert(hidden_NF.view(), e), of_expert(scratch_NF.view(), e));
  });

  Matrix<float> y_ND(rows, width);
  const auto down_tasks = expert_tasks(plan, width, threads);
  compute.threads.parallel_for(down_tasks.size(), [&](size_t i) {
    const auto [e, first, count] = down_tasks[i];
    const auto in = of_expert(hidden_NF.view(), e), out = of_expert(y_ND.view(), e);
    compute.kernels.linear(in.data(), in.stride(), in.rows(), experts_E[e].down, first, count, out.data() + first,
                           out.stride());
    if (experts_E[e].down_bias.empty()) return;
    const auto bias = std::span(experts_E[e].down_bias).subspan(first, count);
    for (size_t r = 0; r < out.rows(); ++r) add(bias, out.row(r).subspan(first, count));
  });
  return y_ND;
}

// Each token's results, weighted and summed in the order of its routing.
Matrix<float> combine(const Compute& compute, const Routing& routing, const DispatchPlan& plan,
                      MatrixView<const float> y_ND) {
  Matrix<float> out_TD(static_cast<size_t>(routing.num_tokens()), y_ND.cols());
  compute.threads.parallel_for(out_TD.rows(), [&](size_t t) {
    for (int visit = routing.begin_T1[t]; visit < routing.begin_T1[t + 1]; ++visit) {
      const auto y = y_ND.row(static_cast<size_t>(plan.row_of_visit_N[visit]));
      compute.kernels.add_scaled(routing.weights_N[visit], y.data(), out_TD.row(t).data(), y.size());
    }
  });
  return out_TD;
}

void add_shared(const Compute& compute, const MoeWeights& weights, MatrixView<const float> x_TD,
                MatrixView<float> out_TD) {
  const Matrix<float> shared_TD = feed_forward(compute, weights.shared, x_TD);
  Matrix<float> scale_T1(x_TD.rows(), 1);
  if (!weights.shared_scale.empty()) kernel::linear(compute, x_TD, weights.shared_scale, scale_T1.view());
  compute.threads.parallel_for(x_TD.rows(), [&](size_t t) {
    const float scale = weights.shared_scale.empty() ? 1.0f : sigmoid(scale_T1.row(t)[0]);
    compute.kernels.add_scaled(scale, shared_TD.row(t).data(), out_TD.row(t).data(), out_TD.cols());
  });
}

}  // namespace

Matrix<float> feed_forward(const Compute& compute, const FeedForwardWeights& weights, MatrixView<const float> x_TD) {
  const size_t hidden = weights.gate.rows;
  Matrix<float> hidden_TF(x_TD.rows(), hidden), scratch_TF(x_TD.rows(), hidden), out_TD(x_TD.rows(), x_TD.cols());
  const size_t step = kernel::rows_per_task(hidden, static_cast<size_t>(compute.threads.size()));
  compute.threads.parallel_for((hidden + step - 1) / step, [&](size_t task) {
    const size_t first = task * step;
    gate_and_up(compute.kernels, weights, spec::Activation::SwiGlu, x_TD, first, std::min(step, hidden - first),
                hidden_TF.view(), scratch_TF.view());
  });
  kernel::linear(compute, hidden_TF.view(), weights.down, out_TD.view());
  return out_TD;
}

MoeOutput moe_layer(const Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights,
                    MatrixView<const float> x_TD) {
  // Router
  Matrix<float> logits_TE(x_TD.rows(), static_cast<size_t>(spec.router.num_experts));
  kernel::linear(compute, x_TD, weights.router_ED, logits_TE.view());
  for (size_t t = 0; t < logits_TE.rows(); ++t) add(weights.router_bias_E, logits_TE.row(t));
  Routing routing = moe::route(spec.router, logits_TE.flat(), weights.selection_bias_E);

  // Dispatch, experts, combine
  const DispatchPlan plan = moe::plan_dispatch(routing);
  const Matrix<float> x_ND = dispatch(compute, plan, x_TD);
  const Matrix<float> y_ND = run_experts(compute, plan, spec.activation, weights.experts_E, x_ND.view());
  Matrix<float> out_TD = combine(compute, routing, plan, y_ND.view());

  if (!weights.shared.gate.empty()) add_shared(compute, weights, x_TD, out_TD.view());
  return {std::move(out_TD), std::move(routing)};
}

}  // namespace moiety::model
