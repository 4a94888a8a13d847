// plan.json: what a run found out when it began and keeps to: hyper-parameters that the configuration left open, and how many
// steps a run given in minutes has.
#pragma once

#include <cstdint>
#include <optional>

#include "base/file.h"
#include "train/hyper_parameters.h"

namespace moiety::train {

struct Plan {
  int64_t steps = 0;  // 0: not fixed yet, or given by the configuration
  double seconds_per_step = 0;
  std::optional<Chosen> chosen;
};

// An empty plan if the run has none.
Plan read_plan(const fs::path& run);
void write_plan(const fs::path& run, const Plan& plan);

}  // namespace moiety::train
