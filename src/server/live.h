// What the machine does while it does it, for the web page and for whoever wants to watch.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "server/answer_ids.h"
#include "server/exchange.h"

namespace moiety::server {

// `engine` and `answers` must outlive the routes.
struct LiveSource {
  const engine::Engine& engine;
  const AnswerIds& answers;
  uint64_t memory_budget = 0;  // bytes; 0: none was set
};

// GET /live: server-sent events, for as long as somebody listens. The first is named "model" (model_event of live_events.h);
// those that follow, four a second, are figures_event, with the heat maps "all" and, for ?request=ID, where ID is what the header
// x-request-id of an answer said, "answer": the visits of its tokens. A map is left out while it does not change.
std::vector<Route> live_routes(const LiveSource& source);

}  // namespace moiety::server
