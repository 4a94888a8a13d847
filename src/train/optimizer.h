// AdamW over all weights at once, with clipping by the norm of the whole gradient.
#pragma once

#include "train/config.h"
#include "train/weights.h"

namespace moiety::train {

class Optimizer {
 public:
  Optimizer(const TrainConfig::Optimizer& config, Weights& weights);

  // Uses and clears the gradients; returns their norm before clipping. `step` counts from 0.
  double step(int64_t step, double learning_rate);

  // Laid out like the weights; for the checkpoint.
  std::span<float> first_moment() { return first_moment_.flat(); }
  std::span<float> second_moment() { return second_moment_.flat(); }

 private:
  // A stretch of weights treated alike, short enough to be one thread's task.
  struct Piece {
    size_t begin, size;
    bool decays;
  };

  TrainConfig::Optimizer config_;
  Weights& weights_;
  std::vector<Piece> pieces_;
  Matrix<float> first_moment_, second_moment_;
};

}  // namespace moiety::train
