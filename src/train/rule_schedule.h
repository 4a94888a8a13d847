// How the routers' rules change over the steps of a run: pure functions of layer and step, so that a run goes on after a break
// with the very rules it would have had. A checkpoint's config.json holds the rules of the end.
#pragma once

#include <cstdint>
#include <vector>

#include "spec/model_spec.h"
#include "train/config.h"

namespace moiety::train {

// How many experts a token visits: from `from` to `to`, one by one, each number for equally many steps. Falling, with the lower
// layers later, it is the progressive sparsification of Sigma-MoE-Tiny (Hu et al. 2025): young lower layers send most tokens
// to few experts whatever the balance loss says. Rising it is the schedule of SMoE-Dropout (Chen et al. 2023).
struct ExpertsSchedule {
  int from = 0, to = 0;
  int64_t begin = 0, steps = 0;
  double lower_later = 0;  // the share of the steps that the lowest layer begins after the highest; all end by begin + steps
};
int experts_at(const ExpertsSchedule& schedule, int layer, int layers, int64_t step);

// The temperature that logits are divided by: from `from` to `to` by the same ratio every step (the dense-to-sparse gate of
// EvoMoE, Nie et al. 2021).
struct TemperatureSchedule {
  double from = 1, to = 1;
  int64_t begin = 0, steps = 0;
};
double temperature_at(const TemperatureSchedule& schedule, int64_t step);

// The rule of each layer (dense ones have one that means nothing) at `step` of `steps`; it ends as the model's.
std::vector<spec::RouterRule> rules_at(const TrainConfig::Anneal& anneal, const spec::ModelSpec& spec, int64_t step, int64_t steps);

}  // namespace moiety::train
