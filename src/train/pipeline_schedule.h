// In which order the stages of a pipeline work: one forward, one backward (Narayanan et al. 2019, "PipeDream"), with several chunks of layers
// a stage interleaved (Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters using Megatron-LM"). Pure decisions.
#pragma once

#include <vector>

namespace moiety::train {

// Layers are cut in stages * chunks parts; part p is chunk p / stages of stage p % stages. With several chunks micro_batches must be a
// multiple of stages, since they go through a stage's chunks in groups of so many.
struct PipelineShape {
  int stages = 1, chunks = 1;
  int micro_batches = 1;
  int parts() const { return stages * chunks; }
};

struct PipelineStep {
  bool is_backward;
  int chunk, micro_batch;
  bool operator==(const PipelineStep&) const = default;
};

// What a stage does, one thing after the other. Whoever does as it says and sends without waiting for the receiver never waits for ever.
// A stage keeps the activations of at most most_in_flight() forward steps whose backward steps have not come.
std::vector<PipelineStep> pipeline_order(const PipelineShape& pipeline, int stage);
int most_in_flight(const PipelineShape& pipeline, int stage);

// Time from the first step to the last, and how long the busiest stage works, if a forward step of a part takes 1 and a backward step 2.
struct PipelineTimes {
  double all, busy;
};
PipelineTimes pipeline_times(const PipelineShape& pipeline);

}  // namespace moiety::train
