// The numbers that steer which experts are chosen and that no gradient moves: they follow the load (Wang et al. 2024, "Loss-free balancing") or,
// with expert choice, the scores from which on experts took a token.
#pragma once

#include <vector>

#include "train/config.h"
#include "train/moe_block.h"
#include "train/routing_figures.h"
#include "train/weights.h"

namespace moiety::train {

// By router, of each expert: of expert choice, means over a step's passes.
using CutOffs = std::vector<std::vector<float>>;

// Of a pass that is so much of its step.
void add_cut_offs(const Routes& routes, float share, CutOffs& cut_offs);

struct StepRouting {
  const RoutingFigures& figures;
  const CutOffs& cut_offs;
};
// After the step that `step` others came before; of the layers that are here.
void update_bias(const TrainConfig::Balance& config, const spec::ModelSpec& spec, int64_t step, const StepRouting& routing, Weights& weights);

}  // namespace moiety::train
