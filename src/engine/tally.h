// What an engine counts as it runs, for those who look on from other threads.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler.h"

namespace moiety::engine {

class Tally {
 public:
  explicit Tally(const spec::ModelSpec& spec);

  // A layer's routing in a step of these turns, in their order.
  void add_routing(int layer, const moe::Routing& routing, std::span<const Turn> turns);
  // A step has ended, which took so long after so long a pause, and from which so many tokens came.
  struct Step {
    double seconds = 0, pause = 0;
    size_t prompt_tokens = 0, new_tokens = 0, drafted = 0, accepted = 0;
  };
  void add_step(const Step& step);
  // What else there is to know, as it is now.
  void update(const std::function<void(EngineStatistics&)>& change);

  EngineStatistics statistics() const;
  std::vector<std::vector<uint32_t>> visits_of(uint64_t id) const;

 private:
  using Visits = std::vector<std::vector<uint32_t>>;  // [layers][experts]
  struct Moment {
    Clock::time_point when;
    size_t prompt_tokens, new_tokens;
  };

  mutable std::mutex mutex_;  // guards all that follows
  EngineStatistics statistics_;
  std::map<uint64_t, Visits> visits_;  // of the last requests
  std::deque<Moment> moments_;         // the last seconds' steps
  Visits none_;
};

}  // namespace moiety::engine
