// Visits whose experts are not the gate's own but shared out by a matrix between a permutation and an even spread: what the gate sends to
// expert i goes to expert j by the share [i][j]. What experts a token visits then is a function of who the gate chose and which shares
// are not zero; the weight of one is the sum over the gate's choices of weight times share. No torch, no graph.
#pragma once

#include <memory>
#include <span>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"

namespace moiety::train {

// The plan of the visits that come of `chosen`, where nobody may have been turned away and whose weights are mix_N. A token's experts are in the order in which
// its choices come to them; a share of one and zeros beside it leaves all as it is.
std::shared_ptr<const moe::LayerPlan> permute_visits(const moe::Routing& chosen, std::span<const float> mix_N, MatrixView<const float> share_EE);

// Given the gradients of the new visits' weights, writes those of the gate's and adds those of the shares that are not zero. Sums over tokens are cut by
// the number of threads.
void permute_visits_backward(const moe::Routing& chosen, std::span<const float> mix_N, MatrixView<const float> share_EE,
                             const moe::Routing& permuted, std::span<const float> dpermuted_N, std::span<float> dchosen_N, MatrixView<float> dshare_EE);

}  // namespace moiety::train
