// A training run: what it needs before it begins, and then its loop (train/trainer.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/crew.h"
#include "comm/group.h"
#include "train/checkpoint_writer.h"
#include "train/config.h"
#include "train/optimizer.h"

namespace moiety::train {

struct FinalScore {
  std::string domain;
  double nats_per_token = 0, bits_per_byte = 0;
};

struct Outcome {
  bool finished = false;       // false: asked to stop
  bool was_finished = false;   // there was nothing to do
  bool is_to_regroup = false;  // ranks come or go (comm::Crew)
  bool has_retired = false;    // this rank was asked to leave the others
  int64_t step = 0, steps = 0, tokens = 0;
  double seconds = 0;          // of this call's training steps; where ranks come and go, since they last did
  double tokens_per_s = 0;
  OptimizerFigures optimizer;
  size_t activation_bytes = 0;  // what the last pass kept for its gradients
  size_t peak_bytes = 0;        // largest resident memory while training
  std::string checkpoint;      // the newest; empty if there is none yet
  CheckpointFigures checkpoints;
  std::vector<FinalScore> scores;
};

struct TrainHooks {
  std::function<void()> training_starts;  // the data is ready
  std::function<bool()> stop;             // asked after every step
  std::string timeline;                   // a file for train/timeline.h; empty: none
  bool explain = false;                   // says what the machine does and a step should take, after some steps
  int64_t timeline_steps = 20;            // of this call, that it holds
};

// Progress goes to stderr, results to the run's folder. With several `ranks` (nullptr: this process is alone) each computes some of a
// pass's sequences, and all get the same losses and weights; rank 0 prepares the data, speaks, and writes the run's folder, which all
// must see. Throws Error(Input) for what only one process can do.
Outcome train(const TrainConfig& config, const TrainHooks& hooks, comm::Group* ranks = nullptr);
// With ranks that come and go: when some are lost the others go on from the last step that all of them have ended.
Outcome train(const TrainConfig& config, const TrainHooks& hooks, comm::Crew& crew);

}  // namespace moiety::train
