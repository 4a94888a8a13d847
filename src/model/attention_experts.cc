#include "model/attention_experts.h"

#include <algorithm>
#include <functional>

namespace moiety::model {
namespace {

using kernel::Compute;
using kernel::Projection;
using spec::AttentionSpec;

// Copies the pieces of an expert's heads that belong to one key-value head each: copy(at in the expert's, at in the token's, count).
template <class Copy>
void for_each_piece(const AttentionSpec& spec, size_t slot, const Copy& copy) {
  const size_t per_token = static_cast<size_t>(spec.experts->experts_per_token), kv_heads = static_cast<size_t>(spec.num_kv_heads);
  const size_t group = static_cast<size_t>(spec.expert_heads()) / kv_heads * static_cast<size_t>(spec.head_dim);
  for (size_t h = 0; h < kv_heads; ++h) copy(h * group, (h * per_token + slot) * group, group);
}

// y = x * matrix of each expert that is visited, of the rows that `fill` writes and `take` reads: (token, its place in the token's
// choice, row).
void run_visited(const Compute& compute, const AttentionChoice& choice, const std::vector<Projection>& matrices_E,
                 const std::function<void(size_t token, size_t slot, std::span<float> row)>& fill,
                 const std::function<void(size_t visit, size_t token, size_t slot, std::span<const float> row)>& take) {
  const moe::DispatchPlan& plan = choice.plan;
  for (int e = 0; e < plan.num_experts(); ++e) {
    const size_t begin = static_cast<size_t>(plan.begin_E1[static_cast<size_t>(e)]), rows = static_cast<size_t>(plan.rows_of(e));
    if (rows == 0) continue;
    const Projection& matrix = matrices_E[static_cast<size_t>(e)];
    const auto token_of = [&](size_t r) { return static_cast<size_t>(plan.token_of_row_N[begin + r]); };
    const auto visit_of = [&](size_t r) { return static_cast<size_t>(plan.visit_of_row_N[begin + r]); };
    const auto slot_of = [&](size_t r) { return visit_of(r) - static_cast<size_t>(choice.routing.begin_T1[token_of(r)]); };
    auto x_RI = Matrix<float>::uninitialised(rows, matrix.cols), y_RO = Matrix<float>::uninitialised(rows, matrix.rows);
    for (size_t r = 0; r < rows; ++r) fill(token_of(r), slot_of(r), x_RI.row(r));
    kernel::linear(compute, std::as_const(x_RI).view(), matrix, y_RO.view());
    for (size_t r = 0; r < rows; ++r) take(visit_of(r), token_of(r), slot_of(r), y_RO.row(r));
  }
}

}  // namespace

AttentionChoice choose_attention_experts(const Compute& compute, const AttentionSpec& spec, const AttentionExpertWeights& weights,
                                         MatrixView<const float> x_TD) {
  auto logits_TE = Matrix<float>::uninitialised(x_TD.rows(), weights.router_ED.rows);
  kernel::exact_linear(compute, x_TD, weights.router_ED, logits_TE.view());
  AttentionChoice choice{moe::route(spec.experts->rule(), logits_TE.flat(), {}), {}};
  choice.plan = moe::plan_dispatch(choice.routing);
  return choice;
}

void expert_queries(const Compute& compute, const AttentionSpec& spec, const AttentionExpertWeights& weights,
                    const AttentionChoice& choice, MatrixView<const float> x_TD, MatrixView<float> query_TQ) {
  run_visited(
      compute, choice, weights.query_E, [&](size_t t, size_t, std::span<float> row) { std::ranges::copy(x_TD.row(t), row.begin()); },
      [&](size_t, size_t t, size_t slot, std::span<const float> row) {
        for_each_piece(spec, slot, [&](size_t from, size_t to, size_t count) {
          std::ranges::copy(row.subspan(from, count), query_TQ.row(t).subspan(to, count).begin());
        });
      });
}

void expert_outputs(const Compute& compute, const AttentionSpec& spec, const AttentionExpertWeights& weights,
                    const AttentionChoice& choice, MatrixView<const float> mixed_TQ, MatrixView<float> out_TD) {
  auto y_ND = Matrix<float>::uninitialised(choice.routing.experts_N.size(), out_TD.cols());
  run_visited(
      compute, choice, weights.output_E,
      [&](size_t t, size_t slot, std::span<float> row) {
        for_each_piece(spec, slot, [&](size_t to, size_t from, size_t count) {
          std::ranges::copy(mixed_TQ.row(t).subspan(from, count), row.subspan(to, count).begin());
        });
      },
      [&](size_t visit, size_t, size_t, std::span<const float> row) { std::ranges::copy(row, y_ND.row(visit).begin()); });
  compute.threads.parallel_for(out_TD.rows(), [&](size_t t) {
    const auto out = out_TD.row(t);
    std::ranges::fill(out, 0.0f);
    for (auto n = choice.routing.begin_T1[t]; n < choice.routing.begin_T1[t + 1]; ++n) {
      compute.kernels.add_scaled(choice.routing.weights_N[static_cast<size_t>(n)], y_ND.row(static_cast<size_t>(n)).data(), out.data(),
                                 out.size());
    }
  });
}

}  // namespace moiety::model
