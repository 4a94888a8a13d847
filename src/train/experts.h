// All routed experts of a layer at once, forward and backward: rows gathered by expert, three matrix products each,
// results weighted and summed back to their tokens. Plain arithmetic on matrices: no torch, no graph.
#pragma once

#include <span>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"
#include "train/buffer.h"
#include "train/gemm.h"

namespace moiety::train {

// The stacked weights of a layer's experts, or their gradients.
template <class T>
struct ExpertStack {
  size_t num_experts = 0, width = 0, hidden = 0;
  T* gate = nullptr;  // [E, F, D]
  T* up = nullptr;    // [E, F, D]
  T* down = nullptr;  // [E, D, F]

  MatrixView<T> gate_FD(size_t e) const { return {gate + e * hidden * width, hidden, width}; }
  MatrixView<T> up_FD(size_t e) const { return {up + e * hidden * width, hidden, width}; }
  MatrixView<T> down_DF(size_t e) const { return {down + e * width * hidden, width, hidden}; }
};

// The same weights packed, of the first expert; empty if they are not.
struct PackedExperts {
  PackedMatrix gate, up, down;
};

// What forward leaves for backward beside its inputs x_TD (4 T D bytes, which the graph holds anyway). Gathered inputs, activations
// and results of the experts, and their gradients, are made again or never whole: nothing grows when experts become finer at the same
// k F (Guo et al. 2025, "SonicMoE"). Autograd of the plain formulation keeps 2 D + 4 F numbers a visit.
enum class Keep {
  Products,  // x * gate and x * up: 2 F numbers a visit, so 2 T k F of 4 bytes in f32, of 2 in bf16
  Inputs,    // nothing, for 2 of 9 more operations; gradients are the same to the last bit
};

// What products are computed in, and what experts keep.
struct Mode {
  GemmType type = GemmType::F32;
  Keep keep = Keep::Products;
};

struct ExpertsSaved {
  Matrix<std::byte> gate_NF, up_NF;  // rows of kernel::gemm_row_bytes(); empty if only inputs are kept
  size_t bytes() const { return gate_NF.rows() * gate_NF.cols() + up_NF.rows() * up_NF.cols(); }
};

// out_TD[t] += sum over the visits of token t of weight * expert(x_TD[t]).
ExpertsSaved experts_forward(const Mode& mode, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                             std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<float> out_TD,
                             const PackedExperts& packed = {});

// Adds to dx_TD and to the weights' gradients, writes the gradient of every mixing weight.
void experts_backward(const Mode& mode, const ExpertStack<const float>& weights, const moe::DispatchPlan& plan,
                      std::span<const float> mix_N, MatrixView<const float> x_TD, const ExpertsSaved& saved,
                      MatrixView<const float> dout_TD, MatrixView<float> dx_TD, std::span<float> dmix_N,
                      const ExpertStack<float>& gradients, const PackedExperts& packed = {});

}  // namespace moiety::train
