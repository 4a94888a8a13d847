// The last collectives of a process: which, how large, when, and what it was doing. What ranks compare when one of them is missing.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace moiety::comm {

struct Flight {
  using Clock = std::chrono::steady_clock;

  std::string group;                                // empty: all ranks
  std::shared_ptr<const std::vector<int>> members;  // of the group, as ranks of all; null: all
  int64_t number = 0;                               // in its group, from 1
  std::string kind, doing;
  uint64_t numbers = 0, bytes = 0;
  bool is_equal = true;                             // as many numbers on every rank
  bool is_done = false;
  Clock::time_point begun{}, done{};
  std::optional<Clock::time_point> waited_since = {};  // somebody stands still for it
};

class FlightRecorder {
 public:
  explicit FlightRecorder(size_t kept = 64) : kept_(kept) {}

  // Returns the number that it gives it.
  int64_t begin(Flight flight);
  void wait_begins(const std::string& group, int64_t number);
  // Returns it as it was kept.
  Flight end(const std::string& group, int64_t number);

  std::vector<Flight> last() const;              // oldest first
  std::vector<Flight> newest_of_groups() const;  // that began
  std::optional<Flight> oldest_waited_for() const;

 private:
  Flight* find(const std::string& group, int64_t number);

  mutable std::mutex mutex_;  // guards what follows
  size_t kept_;
  std::map<std::string, int64_t> numbers_;
  std::deque<Flight> flights_;
};

// "exchange 17 (sum of 1000 numbers; step 12, gradients)"
std::string describe(const Flight& flight);
// A line for each, with times before `now`.
std::string table(const std::vector<Flight>& flights, Flight::Clock::time_point now);

}  // namespace moiety::comm
