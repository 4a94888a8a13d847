// A routing trace as what a cache of experts was asked for.
#pragma once

#include <string>
#include <vector>

#include "store/expert_cache.h"
#include "trace/routing_trace.h"

namespace moiety::cli {

struct PastVisits {
  trace::TraceHeader header;
  std::vector<size_t> experts_L;  // as ExpertCache has it
  std::vector<store::PastVisit> visits;
  size_t tokens = 0;
};

// With `token_by_token` as if each token had been a step of its own. Throws what TraceReader throws, and Error(Input) if there is no
// step in it.
PastVisits read_past_visits(const std::string& path, bool token_by_token);

}  // namespace moiety::cli
