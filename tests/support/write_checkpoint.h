// A checkpoint that nothing goes on beside.
#pragma once

#include "train/checkpoint_writer.h"

namespace moiety::test {

// Collective if there are ranks.
inline void write_checkpoint(const train::CheckpointFiles& files, const spec::ModelSpec& spec, const train::Weights& weights,
                             train::Optimizer& optimizer, const train::RunState& state, comm::Group* ranks = nullptr) {
  constexpr int64_t kAll = 1 << 20;
  train::CheckpointWriter writer(files, kAll, spec, ranks);
  writer.begin(weights, optimizer, state);
  writer.finish();
}

}  // namespace moiety::test
