// What /live tells, as JSON: pure functions of what the engine says of itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"

namespace moiety::server {

// {"layers": the numbers of those with experts, "experts", "experts_per_token", "context"}; experts are 0 in a dense model.
Json model_event(const spec::ModelSpec& spec, size_t context);

struct Memory {
  uint64_t resident = 0, budget = 0;  // bytes; a budget of 0: none was set
};

// What happened in the `seconds` between two statistics, and what is so now. Rates are a second's; memory in bytes.
Json figures_event(const engine::EngineStatistics& before, const engine::EngineStatistics& now, double seconds, const Memory& memory);

// A byte for each expert of each layer that has experts, 255 * sqrt(value / the largest of all), in base64. The root makes
// experts visible that are visited a hundredth as often as the busiest.
std::string heat_map(const std::vector<std::vector<float>>& visits_LE);

}  // namespace moiety::server
