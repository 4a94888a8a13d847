// A picture of training runs: loss over tokens, over operations and over time, a colour a configuration, a line a run.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runs/compare.h"

namespace moiety::cli {

std::string draw_run_chart(std::span<const runs::Run> runs, const std::vector<runs::Group>& groups);

}  // namespace moiety::cli
