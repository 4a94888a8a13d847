// What those who run a server ask it: is it alive, is it ready, what has it counted.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/http_server.h"

namespace moiety::engine {
struct EngineStatistics;
}

namespace moiety::server {

// /health/live, /health/ready and /health (200, or 503 with a reason), /metrics. `more_metrics` returns what else belongs into
// /metrics, as text; it may be empty. All outlive the server's thread.
std::vector<Route> operation_routes(const HttpServer& server, const Metrics& metrics, std::function<std::string()> more_metrics = {});

// The engine's part of /metrics.
std::string engine_metrics(const engine::EngineStatistics& statistics);

}  // namespace moiety::server
