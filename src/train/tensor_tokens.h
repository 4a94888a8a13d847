// The tokens of ranks that share each dense matrix. Between blocks every rank has its own, and all that works token by token, norms,
// routers, experts, the head, sees these alone (sequence parallelism: Korthikanti et al. 2022): so a weight that all ranks have gets from
// each the gradient of its own tokens, and experts may be spread over the same ranks in any other way. Where a matrix is shared out, all
// the ranks' tokens come together, each rank multiplies them with its slices, and of the products' sum takes its own tokens back.
#pragma once

#include <memory>
#include <vector>

#include "comm/group.h"
#include "train/functions.h"

namespace moiety::train {

struct TensorTokens {
  comm::Group& group;
  std::vector<size_t> begin_R1;   // where each rank's tokens begin among all
  std::vector<Segment> segments;  // of all; documents that a rank ends and the next one goes on with are whole

  size_t own() const { return begin_R1[static_cast<size_t>(group.rank()) + 1] - begin_R1[static_cast<size_t>(group.rank())]; }
};

// What the group's ranks have of a pass. Collective.
std::shared_ptr<const TensorTokens> bring_together(comm::Group& group, const Batch& mine);

// All ranks' rows; without `tokens` they are here. Collective, and so is the way back.
Tensor gather_tokens(const Tensor& mine_TD, const std::shared_ptr<const TensorTokens>& tokens);
// This rank's rows of the sum of what all have of it. Collective, and so is the way back.
Tensor sum_tokens(const Tensor& summand_TD, const std::shared_ptr<const TensorTokens>& tokens);

// residual + x times the weight, of which `tokens`' ranks have some columns each: their x is of all tokens, the result of this rank's.
Tensor add_linear_slice(const Tensor& residual_TD, const Tensor& x, const WeightMatrix& weight, GemmType type,
                        const std::shared_ptr<const TensorTokens>& tokens);

}  // namespace moiety::train
