#include "train/permuted_visits.h"

#include <algorithm>

#include "train/buffer.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

size_t begin_of(const moe::Routing& routing, size_t token) { return static_cast<size_t>(routing.begin_T1[token]); }

}  // namespace

std::shared_ptr<const moe::LayerPlan> permute_visits(const moe::Routing& chosen, std::span<const float> mix_N, MatrixView<const float> share_EE) {
  const size_t experts = share_EE.rows();
  const auto plan = std::make_shared<moe::LayerPlan>();
  moe::Routing& permuted = plan->routing;
  permuted.num_experts = chosen.num_experts;
  std::vector<float> weight_E(experts);
  std::vector<bool> is_visited_E(experts);
  for (size_t t = 0; t + 1 < chosen.begin_T1.size(); ++t) {
    std::ranges::fill(weight_E, 0.0f);
    std::fill(is_visited_E.begin(), is_visited_E.end(), false);
    const size_t first = permuted.experts_N.size();
    for (size_t n = begin_of(chosen, t); n < begin_of(chosen, t + 1); ++n) {
      const auto share_E = share_EE.row(static_cast<size_t>(chosen.experts_N[n]));
      for (size_t j = 0; j < experts; ++j) {
        if (share_E[j] == 0) continue;
        weight_E[j] += mix_N[n] * share_E[j];
        if (!is_visited_E[j]) permuted.experts_N.push_back(static_cast<int32_t>(j));
        is_visited_E[j] = true;
      }
    }
    for (size_t n = first; n < permuted.experts_N.size(); ++n) {
      permuted.weights_N.push_back(weight_E[static_cast<size_t>(permuted.experts_N[n])]);
    }
    permuted.begin_T1.push_back(static_cast<int32_t>(permuted.experts_N.size()));
  }
  plan->dispatch = moe::plan_dispatch(permuted);
  return plan;
}

void permute_visits_backward(const moe::Routing& chosen, std::span<const float> mix_N, MatrixView<const float> share_EE,
                             const moe::Routing& permuted, std::span<const float> dpermuted_N, std::span<float> dchosen_N, MatrixView<float> dshare_EE) {
  const size_t experts = share_EE.rows();
  Matrix<float> parts(parallel_parts(), experts * experts);
  parallel_ranges(static_cast<size_t>(chosen.num_tokens()), [&](size_t begin, size_t end, size_t part) {
    const MatrixView<float> mine_EE(parts.row(part).data(), experts, experts);
    for (size_t t = begin; t < end; ++t) {
      for (size_t n = begin_of(chosen, t); n < begin_of(chosen, t + 1); ++n) {
        const size_t i = static_cast<size_t>(chosen.experts_N[n]);
        dchosen_N[n] = 0;
        for (size_t m = begin_of(permuted, t); m < begin_of(permuted, t + 1); ++m) {
          const size_t j = static_cast<size_t>(permuted.experts_N[m]);
          if (share_EE.row(i)[j] == 0) continue;
          dchosen_N[n] += share_EE.row(i)[j] * dpermuted_N[m];
          mine_EE.row(i)[j] += mix_N[n] * dpermuted_N[m];
        }
      }
    }
  });
  for (size_t part = 0; part < parts.rows(); ++part) add(parts.row(part), dshare_EE.flat());
}

}  // namespace moiety::train
