// How many rows experts may get in one pass, so that the memory for them is bounded also while a router is young and sends
// what it likes where it likes. Who would get more is not turned away: the pass is made again in smaller pieces.
#pragma once

#include <cstdint>

#include "moe/dispatch_plan.h"

namespace moiety::moe {

struct ReceiveBudget {
  int64_t rows = 0;  // of a layer and a set of experts; 0: as many as come
  int sets = 1;      // neighbouring experts, E * s / sets to E * (s + 1) / sets: as many ranks would hold them
};

// The most rows that one of the sets gets.
int64_t most_received(const DispatchPlan& plan, int sets);

bool fits(const ReceiveBudget& budget, const DispatchPlan& plan);

// How many tokens surely fit, wherever they go, when none visits more than `most_experts`; without a limit: INT64_MAX.
int64_t tokens_that_fit(const ReceiveBudget& budget, int num_experts, int most_experts);

}  // namespace moiety::moe
