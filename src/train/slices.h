// Which slices of the dense matrices a rank has, of those that share them (tensor parallelism: Shoeybi et al. 2019, "Megatron-LM"): of
// attention some key-value heads and the query heads that look at them, of a feed-forward some hidden units. Those are rows of what makes
// them and columns of what reads them, so that each rank computes a summand of the block's output.
#pragma once

#include <optional>

#include "spec/weight.h"
#include "train/part.h"

namespace moiety::train {

// Which of the ranks that share each dense matrix this is.
struct TensorShare {
  int rank = 0, ranks = 1;
};

// Throws Error(Input) if the model can't be shared out among so many.
void check_slices(const spec::ModelSpec& spec, const TensorShare& share);

struct Slices {
  size_t axis = 0;
  Stretch kept;
};
// Of a weight of this role what is here; nullopt: each rank has it whole.
std::optional<Slices> slices_of(const spec::ModelSpec& spec, spec::Role role, const TensorShare& share);

// Attention with the heads that are here.
spec::AttentionSpec heads_here(const spec::AttentionSpec& whole, const TensorShare& share);

}  // namespace moiety::train
