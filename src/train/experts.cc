#include "train/experts.h"

#include <algorithm>
#include <numeric>

#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

// Rows an expert works on at once, and hidden units at a time within them: what these few make is used while it is in the
// second-level cache.
constexpr size_t kRows = 512, kUnits = 128;

using View = MatrixView<float>;
using ConstView = MatrixView<const float>;
using kernel::gemm_row_bytes;
using kernel::gemm_steps;

// One operand of products: rows as the kernel wants them.
struct Rows {
  std::vector<const std::byte*> at;
  size_t steps = 0;
};

// Numbers of a token at a visited expert, in the order of the plan's rows.
std::vector<const float*> gathered(ConstView from_TD, std::span<const int32_t> tokens) {
  std::vector<const float*> rows(tokens.size());
  for (size_t r = 0; r < tokens.size(); ++r) rows[r] = from_TD.row(tokens[r]).data();
  return rows;
}

// Pieces of experts' work, in one type, by one thread; what several of them make lies in memory that is kept.
class Worker {
 public:
  explicit Worker(GemmType type) : type_(type) {}

  // f32 is read where it is.
  Rows rows(std::span<const float* const> x, size_t depth, Scratch& memory) const {
    Rows rows{std::vector<const std::byte*>(x.size()), gemm_steps(type_, depth)};
    const size_t bytes = gemm_row_bytes(type_, depth);
    std::byte* const out = type_ == GemmType::Bf16 ? memory.get(x.size() * bytes) : nullptr;
    for (size_t r = 0; r < x.size(); ++r) {
      if (out != nullptr) gemm_.round_row(x[r], depth, out + r * bytes);
      rows.at[r] = out != nullptr ? out + r * bytes : reinterpret_cast<const std::byte*>(x[r]);
    }
    return rows;
  }
  Rows rows(ConstView x, Scratch& memory) const { return rows(pointers(x), x.cols(), memory); }
  // The columns of x.
  Rows turned(std::span<const float* const> x, size_t cols, Scratch& memory) const {
    Rows rows{std::vector<const std::byte*>(cols), gemm_steps(type_, x.size())};
    const size_t bytes = gemm_row_bytes(type_, x.size());
    std::byte* const out = memory.get(cols * bytes);
    gemm_.turn_columns(type_, x.data(), x.size(), 0, cols, out, bytes);
    for (size_t c = 0; c < cols; ++c) rows.at[c] = out + c * bytes;
    return rows;
  }
  Rows turned(ConstView x, Scratch& memory) const { return turned(pointers(x), x.cols(), memory); }
  // For products with columns [first, first + cols) of x, and with x transposed.
  const std::byte* strips(std::span<const float* const> x, size_t first, size_t cols, Scratch& memory) const {
    std::byte* const out = memory.get(kernel::gemm_strips_bytes(type_, cols, x.size()));
    gemm_.strips_of_columns(type_, x.data(), x.size(), first, cols, out);
    return out;
  }
  const std::byte* strips(ConstView x, size_t first, size_t cols, Scratch& memory) const {
    return strips(pointers(x), first, cols, memory);
  }
  const std::byte* strips_transposed(ConstView x, Scratch& memory) const {
    std::byte* const out = memory.get(kernel::gemm_strips_bytes(type_, x.rows(), x.cols()));
    gemm_.strips_of_rows(type_, pointers(x).data(), x.rows(), x.cols(), out);
    return out;
  }
  void multiply(const Rows& a, const std::byte* strips, View c, Into into = Into::Overwrite) const {
    gemm_.multiply(type_, a.at.data(), a.at.size(), strips, c.cols(), a.steps, c.data(), c.stride(), into == Into::Add);
  }

 private:
  static std::span<const float* const> pointers(ConstView x) {
    thread_local Scratch memory;
    return row_pointers(x, memory);
  }

  GemmType type_;
  const kernel::GemmKernels& gemm_ = gemm_kernels();
};

// Columns [first, + x.cols()) of saved rows.
void keep(GemmType type, ConstView x, size_t first, MatrixView<std::byte> saved) {
  for (size_t r = 0; r < x.rows(); ++r) {
    std::byte* const to = saved.row(r).data() + gemm_row_bytes(type, first);
    if (type == GemmType::Bf16) gemm_kernels().round_row(x.row(r).data(), x.cols(), to);
    else std::ranges::copy(x.row(r), reinterpret_cast<float*>(to));
  }
}
void take_kept(GemmType type, MatrixView<const std::byte> saved, size_t first, View x) {
  for (size_t r = 0; r < x.rows(); ++r) {
    const std::byte* from = saved.row(r).data() + gemm_row_bytes(type, first);
    if (type == GemmType::Bf16) widen(reinterpret_cast<const uint16_t*>(from), x.row(r));
    else std::copy_n(reinterpret_cast<const float*>(from), x.cols(), x.row(r).begin());
  }
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

// body(expert, first row, rows) on all threads; pieces of one expert follow each other on one.
template <class Body>
void for_each_piece(const moe::DispatchPlan& plan, const Body& body) {
  const std::vector<size_t> order = largest_first(plan);
  parallel_tasks(order.size(), [&](size_t i) {
    const size_t e = order[i], end = plan.begin_E1[e + 1];
    for (size_t row = plan.begin_E1[e]; row < end; row += kRows) body(e, row, std::min(kRows, end - row));
  });
}

template <class Body>
void for_units(size_t hidden, const Body& body) {
  for (size_t first = 0; first < hidden; first += kUnits) body(first, std::min(kUnits, hidden - first));
}

// to_TD[t] += sum over the token's visits of from_ND[row] (times the visit's weight), in the order of its visits: the
// same sum in every run.
void combine(const moe::DispatchPlan& plan, ConstView from_ND, std::span<const float> mix_N, View to_TD) {
  parallel_ranges(to_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (int visit = plan.begin_T1[t]; visit < plan.begin_T1[t + 1]; ++visit) {
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

ExpertsSaved experts_forward(const Mode& mode, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                             std::span<const float> mix_N, ConstView x_TD, View out_TD) {
  const size_t rows = plan.num_rows(), width = weights.width, hidden = weights.hidden;
  const bool keeps = mode.keep == Keep::Products;
  const auto unwritten = [&] { return Matrix<std::byte>::uninitialised(keeps ? rows : 0, gemm_row_bytes(mode.type, hidden)); };
  ExpertsSaved saved{unwritten(), unwritten()};
  Buffer y_ND(rows, width);
  const Worker worker(mode.type);

  for_each_piece(plan, [&](size_t e, size_t row, size_t count) {
    thread_local Scratch x_memory, strips, gate_memory, up_memory, hidden_memory, hidden_rows;
    const Rows x_RD = worker.rows(gathered(x_TD, std::span(plan.token_of_row_N).subspan(row, count)), width, x_memory);
    const View hidden_RF(hidden_memory.get<float>(count * hidden), count, hidden);
    for_units(hidden, [&](size_t first, size_t units) {
      const View gate_RU(gate_memory.get<float>(count * units), count, units);
      const View up_RU(up_memory.get<float>(count * units), count, units);
      worker.multiply(x_RD, worker.strips_transposed(weights.gate_FD(e).middle_rows(first, units), strips), gate_RU);
      worker.multiply(x_RD, worker.strips_transposed(weights.up_FD(e).middle_rows(first, units), strips), up_RU);
      if (keeps) {
        keep(mode.type, gate_RU, first, saved.gate_NF.view().middle_rows(row, count));
        keep(mode.type, up_RU, first, saved.up_NF.view().middle_rows(row, count));
      }
      for (size_t r = 0; r < count; ++r) silu_mul(gate_RU.row(r), up_RU.row(r), hidden_RF.row(r).subspan(first, units));
    });
    const Rows activated_RF = worker.rows(hidden_RF, hidden_rows);
    const View y_RD = y_ND.view().middle_rows(row, count);
    for_units(width, [&](size_t first, size_t units) {
      worker.multiply(activated_RF, worker.strips_transposed(weights.down_DF(e).middle_rows(first, units), strips),
                      y_RD.middle_cols(first, units));
    });
  });
  combine(plan, y_ND.view(), mix_N, out_TD);
  return saved;
}

void experts_backward(const Mode& mode, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                      std::span<const float> mix_N, ConstView x_TD, const ExpertsSaved& saved, ConstView dout_TD,
                      View dx_TD, std::span<float> dmix_N, const ExpertStack<float>& gradients) {
  const size_t width = weights.width, hidden = weights.hidden;
  Buffer dx_ND(plan.num_rows(), width);
  std::ranges::fill(dmix_N, 0.0f);
  const Worker worker(mode.type);

  for_each_piece(plan, [&](size_t e, size_t row, size_t count) {
    thread_local Scratch dout_memory, dout_turned, x_strips, strips, dhidden_memory, dgate_memory, dup_memory, mixed_memory, turned,
        dgate_rows, dup_rows, x_memory, gate_memory, up_memory;
    const auto tokens = std::span(plan.token_of_row_N).subspan(row, count);
    const std::vector<const float*> dout = gathered(dout_TD, tokens), x = gathered(x_TD, tokens);
    const Rows dout_RD = worker.rows(dout, width, dout_memory), dout_DR = worker.turned(dout, width, dout_turned);
    const std::byte* const x_strips_RD = worker.strips(x, 0, width, x_strips);
    const Rows x_RD = mode.keep == Keep::Inputs ? worker.rows(x, width, x_memory) : Rows();
    const View dgate_RF(dgate_memory.get<float>(count * hidden), count, hidden);
    const View dup_RF(dup_memory.get<float>(count * hidden), count, hidden);

    for_units(hidden, [&](size_t first, size_t units) {
      // The mixing weight is left out here and put in below, so that one product serves its gradient too:
      // d(weight) = <dout, y> = <dout * down, hidden>.
      const View dhidden_RU(dhidden_memory.get<float>(count * units), count, units);
      worker.multiply(dout_RD, worker.strips(weights.down_DF(e), first, units, strips), dhidden_RU);

      const View dgate_RU = dgate_RF.middle_cols(first, units), dup_RU = dup_RF.middle_cols(first, units);
      const View mixed_RU(mixed_memory.get<float>(count * units), count, units);
      const View gate_RU(gate_memory.get<float>(count * units), count, units), up_RU(up_memory.get<float>(count * units), count, units);
      if (mode.keep == Keep::Inputs) {
        worker.multiply(x_RD, worker.strips_transposed(weights.gate_FD(e).middle_rows(first, units), strips), gate_RU);
        worker.multiply(x_RD, worker.strips_transposed(weights.up_FD(e).middle_rows(first, units), strips), up_RU);
      } else {
        take_kept(mode.type, saved.gate_NF.view().middle_rows(row, count), first, gate_RU);
        take_kept(mode.type, saved.up_NF.view().middle_rows(row, count), first, up_RU);
      }
      for (size_t r = 0; r < count; ++r) {
        const int32_t visit = plan.visit_of_row_N[row + r];
        dmix_N[visit] += silu_mul_backward(dhidden_RU.row(r), gate_RU.row(r), up_RU.row(r), mix_N[visit], dgate_RU.row(r),
                                           dup_RU.row(r), mixed_RU.row(r));
      }
      worker.multiply(dout_DR, worker.strips(mixed_RU, 0, units, strips), gradients.down_DF(e).middle_cols(first, units),
                      Into::Add);
      worker.multiply(worker.turned(dgate_RU, turned), x_strips_RD, gradients.gate_FD(e).middle_rows(first, units),
                      Into::Add);
      worker.multiply(worker.turned(dup_RU, turned), x_strips_RD, gradients.up_FD(e).middle_rows(first, units),
                      Into::Add);
    });

    const Rows dgate = worker.rows(dgate_RF, dgate_rows), dup = worker.rows(dup_RF, dup_rows);
    for_units(width, [&](size_t first, size_t units) {
      const View dx_RU = dx_ND.view().middle_rows(row, count).middle_cols(first, units);
      worker.multiply(dgate, worker.strips(weights.gate_FD(e), first, units, strips), dx_RU);
      worker.multiply(dup, worker.strips(weights.up_FD(e), first, units, strips), dx_RU, Into::Add);
    });
  });
  combine(plan, dx_ND.view(), {}, dx_TD);
}

}  // namespace moiety::train
