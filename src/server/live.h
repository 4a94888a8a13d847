// What the machine does while it does it, for the web page and for whoever wants to watch.
#pragma once

#include <vector>

#include "server/exchange.h"
#include "server/service.h"

namespace moiety::server {

// GET /live: server-sent events, for as long as somebody listens. The first is named "model" (model_event of live_events.h);
// those that follow, four a second, are figures_event, with the heat maps "all" and, for ?request=ID, where ID is what the header
// x-request-id of an answer said, "answer": the visits of its tokens. A map is left out while it does not change. `service` must
// outlive the routes.
std::vector<Route> live_routes(const Service& service);

}  // namespace moiety::server
