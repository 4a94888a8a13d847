#include "train/schedule.h"

#include <algorithm>
#include <cmath>

namespace moiety::train {

double learning_rate(const TrainConfig::Schedule& schedule, double peak, int64_t step, int64_t steps) {
  if (step < schedule.warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  const double end = static_cast<double>(steps);
  const double begin = schedule.kind == "cosine" ? static_cast<double>(schedule.warmup)
                                                 : std::max<double>(static_cast<double>(schedule.warmup),
                                                                    end * (1 - schedule.decay));
  const double share = std::clamp((static_cast<double>(step) - begin) / std::max(1.0, end - begin), 0.0, 1.0);
  // Warm-up, stable, decay goes down in a straight line; cosine starts to fall at once.
  const double fall = schedule.kind == "cosine" ? 0.5 * (1 - std::cos(3.14159265358979 * share)) : share;
  return peak * (1 - fall * (1 - schedule.min_lr));
}

}  // namespace moiety::train
