// What a kind of expert must provide in training: the experts of one kind in a layer, for one pass there and back. The twin of
// model/expert_kind.h; the kinds are spec::ExpertKind, and docs/adding/expert-kind.md says how to add one. Plain arithmetic on
// matrices: no torch, no graph.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"
#include "train/gemm.h"

namespace moiety::train {

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

class ExpertsOfKind {
 public:
  virtual ~ExpertsOfKind() = default;

  // y_ND[n] = expert(x_TD[token_of_row_N[n]]) for every row of the plan that is an own expert's; other rows stay as they are. Keeps
  // what backward() wants beside the arguments that both have.
  virtual void forward(const moe::DispatchPlan& plan, MatrixView<const float> x_TD, MatrixView<float> y_ND) = 0;
  // Of the same rows: an own visit v in row n has the gradient mix_N[v] * dout_TD[token_of_row_N[n]] at y_ND[n]. Writes dx_ND[n]
  // and dmix_N[v] = <dout_TD[token], y_ND[n]>, which forward() need not have kept; adds to the weights' gradients.
  virtual void backward(const moe::DispatchPlan& plan, std::span<const float> mix_N, MatrixView<const float> x_TD,
                        MatrixView<const float> dout_TD, MatrixView<float> dx_ND, std::span<float> dmix_N) = 0;
  // What is kept from one to the other.
  virtual size_t kept_bytes() const = 0;
};

// Those of all kinds in a layer.
using LayerExperts = std::vector<std::shared_ptr<ExpertsOfKind>>;

}  // namespace moiety::train
