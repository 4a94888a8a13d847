// In which order the ranks of a pipeline work: one forward, one backward (Narayanan et al. 2019, "PipeDream"), with several stages a rank
// interleaved (Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters using Megatron-LM"). Pure decisions.
#pragma once

#include <vector>

namespace moiety::train {

// Stages are stretches of layers in their order; stage s is chunk s / ranks of rank s % ranks. With several chunks micro_batches must be a
// multiple of ranks, since they go through a rank's chunks in groups of so many.
struct Pipeline {
  int ranks = 1, chunks = 1;
  int micro_batches = 1;
  int stages() const { return ranks * chunks; }
};

struct PipelineStep {
  bool is_backward;
  int chunk, micro_batch;
  bool operator==(const PipelineStep&) const = default;
};

// What each rank does, one thing after the other. Whoever does as it says and sends without waiting for the receiver never waits for ever.
// A rank keeps the activations of at most most_in_flight() forward steps whose backward steps have not come.
std::vector<std::vector<PipelineStep>> pipeline_order(const Pipeline& pipeline);
int most_in_flight(const Pipeline& pipeline, int rank);

// Time from the first step to the last, and how long the busiest rank works, if a forward step of a stage takes 1 and a backward step 2.
struct PipelineTimes {
  double all, busy;
};
PipelineTimes pipeline_times(const Pipeline& pipeline);

}  // namespace moiety::train
