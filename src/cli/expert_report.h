// How a run's experts were streamed, for people and for machines.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/open_model.h"

namespace moiety::cli {

// Slots, policy, and what was given up for speed; of a model whose experts are streamed.
Json streaming_json(const OpenModel& model);
std::string streaming_text(const OpenModel& model);

// The same with what reading experts has been; null, or empty, if all stayed in memory.
Json expert_statistics_json(const OpenModel& model);
std::string expert_statistics_text(const OpenModel& model);

}  // namespace moiety::cli
