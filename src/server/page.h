// The web page at /.
#pragma once

#include <string_view>
#include <vector>

#include "server/exchange.h"

namespace moiety::server {

// Anybody may have the page, while the model loads, too; what it asks for needs a key if the server has keys.
std::vector<Route> page_routes();

// Whether an answer to a request with this Accept-Encoding may be compressed by gzip (RFC 9110, 12.5.3).
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace moiety::server
