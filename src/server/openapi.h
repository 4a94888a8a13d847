// /openapi.json: what this server answers, printed from the table of routes and the tables of their fields.
#pragma once

#include <span>
#include <string>

#include "server/fields.h"

namespace moiety::server {

struct Endpoint {
  const char* method;
  const char* path;  // a '*' at its end stands for a name
  const char* says;
  FieldTable (*fields)() = nullptr;  // of the request's body, if there is one
  bool streams = false;              // may answer with server-sent events
};

// OpenAPI 3.1.
std::string openapi_json(std::span<const Endpoint> endpoints);

}  // namespace moiety::server
