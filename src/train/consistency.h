// How much two passes over the same tokens, whose experts were drawn anew, disagree about the next token: the loss by which experts
// that are visited by chance learn from one another (Zuo et al. 2022, "THOR"). A few hundred tokens at a time, as in head.h.
#pragma once

#include "train/functions.h"

namespace moiety::train {

// Mean over the positions that have a target of (KL(p || q) + KL(q || p)) / 2, in nats, where p and q are what the output matrix
// makes of a_TD and b_TD.
Tensor mean_consistency(const Tensor& a_TD, const Tensor& b_TD, const WeightMatrix& head_VD, const std::vector<int32_t>& targets_T,
                        GemmType type = GemmType::F32);

}  // namespace moiety::train
