#include "server/route_table.h"

namespace moiety::server {

void RouteTable::add(std::vector<Route> routes) {
  for (Route& route : routes) {
    const bool is_prefix = route.path.ends_with('*');
    auto& paths = is_prefix ? prefixes_ : exact_;
    Methods& methods = paths[is_prefix ? route.path.substr(0, route.path.size() - 1) : route.path];
    std::string method = route.method;
    methods[std::move(method)] = std::make_shared<const Route>(std::move(route));
  }
}

RouteTable::Found RouteTable::find(const std::string& method, const std::string& path) const {
  const Methods* methods = nullptr;
  Found found;
  if (const auto exact = exact_.find(path); exact != exact_.end()) {
    methods = &exact->second;
    found.pattern = path;
  } else {
    for (const auto& [prefix, candidates] : prefixes_) {  // sorted: a longer one that fits comes later
      if (!path.starts_with(prefix) || path.size() == prefix.size()) continue;
      methods = &candidates;
      found.pattern = prefix + "*";
    }
  }
  if (methods == nullptr) return found;

  for (const auto& [name, route] : *methods) {
    found.allowed += (found.allowed.empty() ? "" : ", ") + name;
    if (name == "GET") found.allowed += ", HEAD";
    if (name == method || (name == "GET" && method == "HEAD")) found.route = route;
  }
  found.allowed += ", OPTIONS";
  return found;
}

}  // namespace moiety::server
