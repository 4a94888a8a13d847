// The protocols as routes: what each answers is documented in docs/api.md, and by the server itself at /openapi.json.
#pragma once

#include <vector>

#include "server/exchange.h"
#include "server/service.h"

namespace moiety::server {

// `service` must outlive them.
std::vector<Route> api_routes(Service& service);

}  // namespace moiety::server
