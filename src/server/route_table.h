// Which handler answers a method and a path.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "server/exchange.h"

namespace moiety::server {

class RouteTable {
 public:
  // A later route takes the place of an earlier one of the same method and path.
  void add(std::vector<Route> routes);

  struct Found {
    std::shared_ptr<const Route> route;  // nothing: see `allowed`
    std::string pattern;  // as it was added; empty if there is no such path
    std::string allowed;  // methods that the path has, for the header Allow; empty if there is no such path
  };
  // HEAD is answered by GET's handler.
  Found find(const std::string& method, const std::string& path) const;

 private:
  using Methods = std::map<std::string, std::shared_ptr<const Route>>;
  std::map<std::string, Methods> exact_, prefixes_;  // by path; prefixes without their '*'
};

}  // namespace moiety::server
