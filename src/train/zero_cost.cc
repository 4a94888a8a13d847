#include "train/zero_cost.h"

#include <algorithm>
#include <cmath>

#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using spec::ZeroCost;

// body(t, visit, constant): visits of some tokens that give something; `constant` is the number of a constant expert, -1 for a copy.
template <class Body>
void for_visits(const spec::RouterRule& rule, const moe::Visits& visits, size_t first, size_t last, const Body& body) {
  for (size_t t = first; t < last; ++t) {
    for (size_t m = static_cast<size_t>(visits.begin_T1[t]); m < static_cast<size_t>(visits.begin_T1[t + 1]); ++m) {
      const ZeroCost kind = rule.kind_of(visits.experts_N[m]);
      if (kind == ZeroCost::Copy) body(t, m, -1);
      if (kind == ZeroCost::Constant) body(t, m, visits.experts_N[m] - rule.first_constant());
    }
  }
}

}  // namespace

Buffer zero_cost_forward(const spec::RouterRule& rule, const moe::Visits& visits, std::span<const float> mix_M,
                         const ConstantWeights& constants, MatrixView<const float> x_TD, MatrixView<float> out_TD) {
  const size_t tokens = x_TD.rows(), count = static_cast<size_t>(rule.constant_experts);
  Buffer share_TC(tokens, count), logits(tokens, 2 * count);
  if (count > 0) multiply_nt(GemmType::F32, x_TD, constants.mix.value, logits.view());
  parallel_ranges(tokens, [&](size_t first, size_t last, size_t) {
    for (size_t t = first; t < last; ++t) {
      for (size_t c = 0; c < count; ++c) {
        share_TC.view().row(t)[c] = 1.0f / (1.0f + std::exp(logits.view().row(t)[2 * c + 1] - logits.view().row(t)[2 * c]));
      }
    }
    for_visits(rule, visits, first, last, [&](size_t t, size_t m, int constant) {
      if (constant < 0) return add_scaled(mix_M[m], x_TD.row(t), out_TD.row(t));
      const size_t c = static_cast<size_t>(constant);
      const float share = share_TC.view().row(t)[c];
      add_scaled(mix_M[m] * share, x_TD.row(t), out_TD.row(t));
      add_scaled(mix_M[m] * (1 - share), constants.vector.value.row(c), out_TD.row(t));
    });
  });
  return share_TC;
}

void zero_cost_backward(const spec::RouterRule& rule, const moe::Visits& visits, std::span<const float> mix_M,
                        const ConstantWeights& constants, MatrixView<const float> x_TD, MatrixView<const float> share_TC,
                        MatrixView<const float> dout_TD, MatrixView<float> dx_TD, std::span<float> dmix_M) {
  const size_t tokens = x_TD.rows(), count = static_cast<size_t>(rule.constant_experts);
  std::ranges::fill(dmix_M, 0.0f);
  Matrix<float> dlogits(tokens, 2 * count);
  parallel_ranges(tokens, [&](size_t first, size_t last, size_t) {
    for_visits(rule, visits, first, last, [&](size_t t, size_t m, int constant) {
      const float along_x = dot(dout_TD.row(t), x_TD.row(t));
      if (constant < 0) {
        dmix_M[m] = along_x;
        return add_scaled(mix_M[m], dout_TD.row(t), dx_TD.row(t));
      }
      const size_t c = static_cast<size_t>(constant);
      const float share = share_TC.row(t)[c], along_v = dot(dout_TD.row(t), constants.vector.value.row(c));
      dmix_M[m] = share * along_x + (1 - share) * along_v;
      add_scaled(mix_M[m] * share, dout_TD.row(t), dx_TD.row(t));
      const float dlogit = mix_M[m] * (along_x - along_v) * share * (1 - share);
      dlogits.row(t)[2 * c] = dlogit;
      dlogits.row(t)[2 * c + 1] = -dlogit;
    });
  });
  if (count == 0) return;
  multiply_nn(GemmType::F32, dlogits.view(), constants.mix.value, dx_TD, Into::Add);
  multiply_tn(GemmType::F32, dlogits.view(), x_TD, constants.mix.gradient, Into::Add);
  // Each thread owns some columns, so that a vector's gradients are added in the same order in every run.
  parallel_ranges(x_TD.cols(), [&](size_t begin, size_t end, size_t) {
    for_visits(rule, visits, 0, tokens, [&](size_t t, size_t m, int constant) {
      if (constant < 0) return;
      const size_t c = static_cast<size_t>(constant);
      add_scaled(mix_M[m] * (1 - share_TC.row(t)[c]), dout_TD.row(t).subspan(begin, end - begin),
                 constants.vector.gradient.row(c).subspan(begin, end - begin));
    });
  });
}

}  // namespace moiety::train
