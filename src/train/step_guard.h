// What becomes of bad steps: judged before weights change, traced to what is behind them, and passed over as bad_steps.policy says.
#pragma once

#include <optional>

#include "train/bad_step.h"
#include "train/bad_step_cause.h"
#include "train/checkpoint_writer.h"

namespace moiety::train {

class StepGuard {
 public:
  // What it is given must outlive it. `ranks`: nullptr if this process is alone; else judge(), pass_over() and their state are the same on each.
  StepGuard(const TrainConfig& config, const PreparedData& data, const spec::ModelSpec& spec, Weights& weights, Optimizer& optimizer,
            CheckpointWriter& checkpoints, comm::Group* ranks);

  // Of a step whose gradients have been measured.
  Verdict judge(const StepFigures& figures) { return judge_.judge(figures); }
  // Instead of changing the weights by the step after `steps` others, which is bad: clears the gradients, or rolls back. Returns what metrics.jsonl
  // says of it. Throws where the run is to stop: weights and the last checkpoint are still good.
  Json pass_over(const Verdict& verdict, StepTraces traces, int64_t steps);
  // The run has just become another one.
  void forget_usual() { judge_.forget_usual(); }

  // StepJudge's.
  Json state() const { return judge_.state(); }
  void restore(const Json& state, const std::string& where) { judge_.restore(state, where); }

 private:
  std::optional<int64_t> roll_back(int64_t steps);

  const TrainConfig& config_;
  const PreparedData& data_;
  const spec::ModelSpec& spec_;
  Weights& weights_;
  Optimizer& optimizer_;
  CheckpointWriter& checkpoints_;
  comm::Group* const ranks_;
  StepJudge judge_;
};

}  // namespace moiety::train
