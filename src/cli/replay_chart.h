// A picture of replays: hit rates over the size of the cache, a line a policy.
#pragma once

#include <string>
#include <vector>

namespace moiety::cli {

struct ReplayPoint {
  std::string policy;
  size_t slots;
  double hit_rate;
};

std::string draw_replay_chart(const std::string& title, const std::vector<ReplayPoint>& points);

}  // namespace moiety::cli
