// The fused expert operation: gated feed-forward blocks, each on its own tokens, as two flat lists of work.
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/weights.h"
#include "spec/model_spec.h"

namespace moiety::model {

// One block and the rows [first, first + count) of all visits that are its own.
struct ExpertRows {
  const FeedForwardWeights* weights;
  size_t first, count;
};

// y_ND[n] = down(activation(gate x, up x)) for the token that visits in row n, token_of_row_N[n], by the block that has the row;
// rows that no block has stay as they are. Each matrix is read once, for all of its tokens together, in pieces of (block, some
// of its rows) that threads take as they become free; joins: gate and up with the activation, then down.
void run_experts(const kernel::Compute& compute, spec::Activation activation, std::span<const ExpertRows> blocks,
                 std::span<const int> token_of_row_N, kernel::Activations& x_TD, MatrixView<float> y_ND);

// One block on all tokens: a dense layer.
Matrix<float> feed_forward(const kernel::Compute& compute, const FeedForwardWeights& weights, MatrixView<const float> x_TD);

}  // namespace moiety::model
