// Ranks tell each other, through the store, where they are: twice a second, and when an exchange breaks. So the survivors know whom they
// lost; and whoever waits long in an exchange hears for whom.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/activity.h"
#include "comm/culprit.h"
#include "comm/flight_recorder.h"
#include "comm/store.h"

namespace moiety::comm {

// The word of a rank's end, which only the first to end says; launchers say it for those that are killed.
void say_gone(Store& store, const Gone& gone);
std::optional<Gone> find_gone(Store& store);

class Watch {
 public:
  // All must outlive this. Waits longer than `slow` are said on stderr, by one of those who wait.
  Watch(Store& store, int rank, int ranks, const Activity& activity, const FlightRecorder& recorder, std::chrono::seconds slow = std::chrono::seconds(10));
  ~Watch();

  // An exchange of this rank has failed: waits a moment for the others' words. `table` says where every rank is, and this rank's last
  // exchanges; it is empty unless this is the first of those that are left, who says it for all.
  struct Findings {
    std::optional<Culprit> culprit;
    std::string table;
  };
  Findings look_around(const Flight& stopped);

 private:
  void beat();
  void say(bool has_stopped, bool has_left);
  std::vector<Seen> ask(std::span<const int> ranks);
  std::vector<int> others_of(const Flight& flight) const;
  void warn(const Flight& waiting);

  Store& store_;
  const int rank_, ranks_;
  const Activity& activity_;
  const FlightRecorder& recorder_;
  const std::chrono::seconds slow_;
  int64_t warned_ = 0;  // of exchanges in their groups; the beating thread's own
  std::string warned_group_;
  std::atomic<int64_t> beats_ = 0;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  bool has_stopped_ = false, ends_ = false;
  std::thread thread_;
};

}  // namespace moiety::comm
