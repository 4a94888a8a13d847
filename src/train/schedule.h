// The learning rate as a function of the step.
#pragma once

#include "train/config.h"

namespace moiety::train {

// `step` counts from 0; `steps` is the whole run.
double learning_rate(const TrainConfig::Schedule& schedule, double peak, int64_t step, int64_t steps);

}  // namespace moiety::train
