#include "train/feed_forward_experts.h"

#include <algorithm>
#include <numeric>

#include "format/ternary.h"
#include "train/buffer.h"
#include "train/loops.h"
#include "train/operands.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

// Rows an expert works on at once, and hidden units at a time within them: what these few make is used while it is in the
// second-level cache.
constexpr size_t kRows = 1024, kUnits = 128;

using View = MatrixView<float>;
using ConstView = MatrixView<const float>;
using kernel::gemm_row_bytes;

struct Saved {
  Matrix<std::byte> gate_NF, up_NF;  // rows of kernel::gemm_row_bytes(); empty if only inputs are kept
  size_t bytes() const { return gate_NF.rows() * gate_NF.cols() + up_NF.rows() * up_NF.cols(); }
};

// Numbers of a token at a visited expert, in the order of the plan's rows.
template <class X>
RowPointers<X> gathered(MatrixView<const X> from_TD, std::span<const int32_t> tokens) {
  RowPointers<X> rows(tokens.size());
  for (size_t r = 0; r < tokens.size(); ++r) rows[r] = from_TD.row(tokens[r]).data();
  return rows;
}

// Rows that are kept, as what they hold.
template <class X>
MatrixView<X> as(auto saved, size_t cols) {
  return {reinterpret_cast<X*>(saved.data()), saved.rows(), cols, saved.stride() / sizeof(X)};
}

// Busy experts first, so that no thread is left alone with a big one at the end.
std::vector<size_t> largest_first(const moe::DispatchPlan& plan, size_t experts) {
  std::vector<size_t> order(experts);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return plan.rows_of(static_cast<int>(a)) > plan.rows_of(static_cast<int>(b));
  });
  return order;
}

// body(expert, first row, rows) on all threads; pieces of one expert follow each other on one.
template <class Body>
void for_each_piece(const moe::DispatchPlan& plan, size_t experts, const Body& body) {
  const std::vector<size_t> order = largest_first(plan, experts);
  parallel_tasks(order.size(), [&](size_t i) {
    const size_t e = order[i], end = plan.begin_E1[e + 1];
    for (size_t row = plan.begin_E1[e]; row < end; row += kRows) body(e, row, std::min(kRows, end - row));
  });
}

template <class Body>
void for_units(size_t hidden, const Body& body) {
  for (size_t first = 0; first < hidden; first += kUnits) body(first, std::min(kUnits, hidden - first));
}

// An expert's weights.
template <class X>
struct Expert {
  Expert(const ExpertStack<const float>& weights, const PackedExperts& packed, size_t e)
      : gate_FD(weights.gate_FD(e), packed.gate.after(e)),
        up_FD(weights.up_FD(e), packed.up.after(e)),
        down_DF(weights.down_DF(e), packed.down.after(e)) {}

  WeightOperand<X> gate_FD, up_FD, down_DF;
};

template <class X>
Saved forward(Keep keep, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan, ConstView x_TD, View y_ND,
              const PackedExperts& packed) {
  const size_t rows = static_cast<size_t>(plan.begin_E1[weights.num_experts]), width = weights.width, hidden = weights.hidden;
  const auto unwritten = [&] {
    return Matrix<std::byte>::uninitialised(keep == Keep::Products ? rows : 0, gemm_row_bytes(kGemmType<X>, hidden));
  };
  Saved saved{unwritten(), unwritten()};
  thread_local Scratch x_memory;
  const MatrixView<const X> x = as_operand<X>(x_TD, x_memory);
  const Operands<X> operands;

  for_each_piece(plan, weights.num_experts, [&](size_t e, size_t row, size_t count) {
    thread_local Scratch strips, gate_memory, up_memory, hidden_memory, nowhere;
    const Expert<X> expert(weights, packed, e);
    const Rows x_RD = operands.rows(gathered(x, std::span(plan.token_of_row_N).subspan(row, count)), width);
    const MatrixView<X> hidden_RF = operand_rows(count, hidden, hidden_memory.get<X>(operand_size<X>(count, hidden)));
    for_units(hidden, [&](size_t first, size_t units) {
      const View gate_RU(gate_memory.get<float>(count * units), count, units);
      const View up_RU(up_memory.get<float>(count * units), count, units);
      const bool last = first + units == hidden;
      operands.multiply(x_RD, expert.gate_FD.by_rows(first, units, strips), gate_RU, Into::Overwrite,
                        expert.up_FD.memory_by_rows(first, units));
      operands.multiply(x_RD, expert.up_FD.by_rows(first, units, strips), up_RU, Into::Overwrite,
                        last ? expert.down_DF.memory_by_rows(0, kUnits) : expert.gate_FD.memory_by_rows(first + units, kUnits));
      for (size_t r = 0; r < count; ++r) {
        const auto kept = [&](Matrix<std::byte>& all, size_t nth) -> std::span<X> {
          if (keep == Keep::Inputs) return {nowhere.get<X>(2 * units) + nth * units, units};
          return as<X>(all.view(), hidden).row(row + r).subspan(first, units);
        };
        silu_mul(gate_RU.row(r), up_RU.row(r), hidden_RF.row(r).subspan(first, units), kept(saved.gate_NF, 0), kept(saved.up_NF, 1));
      }
    });
    const Rows activated_RF = operands.rows(hidden_RF);
    const View y_RD = y_ND.middle_rows(row, count);
    for_units(width, [&](size_t first, size_t units) {
      operands.multiply(activated_RF, expert.down_DF.by_rows(first, units, strips), y_RD.middle_cols(first, units), Into::Overwrite,
                        expert.down_DF.memory_by_rows(first + units, kUnits));
    });
  });
  return saved;
}

// x * weight transposed once more, as it was kept.
template <class X>
MatrixView<const X> again(const Operands<X>& operands, const Rows& x_RD, const GemmStrips& strips, size_t units, Scratch& memory) {
  const size_t count = x_RD.at.size();
  thread_local Scratch products;
  const View product_RU((kGemmType<X> == GemmType::F32 ? memory : products).template get<float>(count * units), count, units);
  operands.multiply(x_RD, strips, product_RU, Into::Overwrite, {});
  if constexpr (kGemmType<X> == GemmType::F32) {
    return product_RU;
  } else {
    const MatrixView<X> kept(memory.get<X>(count * units), count, units);
    round(product_RU.flat(), kept.flat());
    return kept;
  }
}

template <class X>
void backward(Keep keep, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan, std::span<const float> mix_N,
              ConstView x_TD, const Saved& saved, ConstView dout_TD, View dx_ND, std::span<float> dmix_N,
              const ExpertStack<float>& gradients, const PackedExperts& packed) {
  const size_t width = weights.width, hidden = weights.hidden;
  thread_local Scratch x_memory, dout_memory;
  const MatrixView<const X> x_all = as_operand<X>(x_TD, x_memory), dout_all = as_operand<X>(dout_TD, dout_memory);
  const Operands<X> operands;

  for_each_piece(plan, weights.num_experts, [&](size_t e, size_t row, size_t count) {
    thread_local Scratch dout_turned, x_strips, strips, dhidden_memory, dgate_memory, dup_memory, mixed_memory, turned, gate_memory,
        up_memory;
    const Expert<X> expert(weights, packed, e);
    const auto tokens = std::span(plan.token_of_row_N).subspan(row, count);
    const RowPointers<X> dout = gathered(dout_all, tokens), x = gathered(x_all, tokens);
    const Rows dout_RD = operands.rows(dout, width), dout_DR = operands.turned(dout, width, dout_turned), x_RD = operands.rows(x, width);
    const GemmStrips x_strips_RD = operands.strips(x, width, x_strips);
    const MatrixView<X> dgate_RF = operand_rows(count, hidden, dgate_memory.get<X>(operand_size<X>(count, hidden)));
    const MatrixView<X> dup_RF = operand_rows(count, hidden, dup_memory.get<X>(operand_size<X>(count, hidden)));

    for_units(hidden, [&](size_t first, size_t units) {
      // The mixing weight is left out here and put in below, so that one product serves its gradient too:
      // d(weight) = <dout, y> = <dout * down, hidden>.
      const View dhidden_RU(dhidden_memory.get<float>(count * units), count, units);
      operands.multiply(dout_RD, expert.down_DF.by_columns(first, units, strips), dhidden_RU, Into::Overwrite, {});

      const auto product = [&](const Matrix<std::byte>& kept, const WeightOperand<X>& weight_FD, Scratch& memory) -> MatrixView<const X> {
        if (keep == Keep::Inputs) return again(operands, x_RD, weight_FD.by_rows(first, units, strips), units, memory);
        return as<const X>(kept.view(), hidden).middle_rows(row, count).middle_cols(first, units);
      };
      const MatrixView<const X> gate_RU = product(saved.gate_NF, expert.gate_FD, gate_memory);
      const MatrixView<const X> up_RU = product(saved.up_NF, expert.up_FD, up_memory);
      const MatrixView<X> dgate_RU = dgate_RF.middle_cols(first, units), dup_RU = dup_RF.middle_cols(first, units);
      const MatrixView<X> mixed_RU(mixed_memory.get<X>(count * units), count, units);
      for (size_t r = 0; r < count; ++r) {
        const int32_t visit = plan.visit_of_row_N[row + r];
        dmix_N[visit] += silu_mul_backward(dhidden_RU.row(r), gate_RU.row(r), up_RU.row(r), mix_N[visit], dgate_RU.row(r),
                                           dup_RU.row(r), mixed_RU.row(r));
      }
      const bool last = first + units == hidden;
      operands.multiply(dout_DR, operands.strips(mixed_RU, strips), gradients.down_DF(e).middle_cols(first, units), Into::Add,
                        expert.down_DF.memory_by_columns(first + units, kUnits));
      operands.multiply(operands.turned(dgate_RU, turned), x_strips_RD, gradients.gate_FD(e).middle_rows(first, units), Into::Add, {});
      operands.multiply(operands.turned(dup_RU, turned), x_strips_RD, gradients.up_FD(e).middle_rows(first, units), Into::Add,
                        last ? expert.gate_FD.memory_by_columns(0, kUnits) : kernel::GemmAhead{});
    });

    const Rows dgate = operands.rows(dgate_RF), dup = operands.rows(dup_RF);
    for_units(width, [&](size_t first, size_t units) {
      const View dx_RU = dx_ND.middle_rows(row, count).middle_cols(first, units);
      operands.multiply(dgate, expert.gate_FD.by_columns(first, units, strips), dx_RU, Into::Overwrite,
                        expert.up_FD.memory_by_columns(first, units));
      operands.multiply(dup, expert.up_FD.by_columns(first, units, strips), dx_RU, Into::Add,
                        expert.gate_FD.memory_by_columns(first + units, kUnits));
    });
  });
}

class FeedForwardExperts : public ExpertsOfKind {
 public:
  FeedForwardExperts(const Mode& mode, const ExpertWeights& weights) : mode_(mode), weights_(weights) {}

  void forward(const moe::DispatchPlan& plan, ConstView x_TD, View y_ND) override {
    const auto in = mode_.type == GemmType::F32 ? train::forward<float> : train::forward<Bf16>;
    saved_ = in(mode_.keep, weights_.value, plan, x_TD, y_ND, weights_.packed);
  }
  void backward(const moe::DispatchPlan& plan, std::span<const float> mix_N, ConstView x_TD, ConstView dout_TD, View dx_ND,
                std::span<float> dmix_N) override {
    const auto in = mode_.type == GemmType::F32 ? train::backward<float> : train::backward<Bf16>;
    in(mode_.keep, weights_.value, plan, mix_N, x_TD, saved_, dout_TD, dx_ND, dmix_N, weights_.gradient, weights_.packed);
  }
  size_t kept_bytes() const override { return saved_.bytes(); }

 private:
  Mode mode_;
  ExpertWeights weights_;
  Saved saved_;
};

}  // namespace

ExpertWeights ternary(const ExpertWeights& latent) {
  const auto [experts, width, hidden, gate, up, down] = latent.value;
  const size_t size = hidden * width;
  const auto out = std::make_shared<Buffer>(3 * experts, size);
  const float* const stacks[] = {gate, up, down};
  parallel_tasks(3 * experts, [&, experts = experts](size_t i) {
    format::ternarise({stacks[i / experts] + i % experts * size, size}, out->row(i));
  });
  const auto stack_at = [&, experts = experts](size_t i) { return out->row(i * experts).data(); };
  return {{experts, width, hidden, stack_at(0), stack_at(1), stack_at(2)}, latent.gradient, {}, out};
}

std::shared_ptr<ExpertsOfKind> feed_forward_experts(const Mode& mode, const ExpertWeights& weights) {
  return std::make_shared<FeedForwardExperts>(mode, weights);
}

}  // namespace moiety::train
