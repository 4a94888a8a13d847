// What a kind of expert must provide at inference: one function that runs experts of the kind on their rows. The twin of
// train/expert_kind.h; the kinds are spec::ExpertKind, and docs/adding/expert-kind.md says how to add one.
#pragma once

#include <span>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/expert_states.h"
#include "model/weights.h"
#include "spec/model_spec.h"

namespace moiety::model {

// One expert and the rows [first, first + count) of all visits that are its own, in the order of their tokens.
struct ExpertRows {
  const ExpertWeights* weights;
  size_t first, count;
};

// What experts of all kinds compute with.
struct ExpertInputs {
  const kernel::Compute& compute;
  spec::Activation activation;
  std::span<const int> token_of_row_N;
  kernel::Activations& x_TD;
  const ExpertStates* states = nullptr;  // none of the experts has one
};

// y_ND[n] = expert(x_TD[token_of_row_N[n]]) for the rows of these experts, which are all of one kind; other rows stay as they are, but
// lie as far apart. Experts that keep something of a sequence read it from `states` and write it there. Each matrix is read once, for
// all of its tokens together; an element of y has the same bits whatever else there is to do (kernel/tile.h).
using RunExperts = void(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND);

RunExperts run_feed_forwards;
RunExperts run_grus;

}  // namespace moiety::model
