// What every rank did when, as one file in Chrome's trace format, which Perfetto opens: a process for each rank, on one track its spans, on
// others its exchanges, with their bytes. Clocks are those of rank 0, aligned through the store.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/activity.h"
#include "base/file.h"
#include "base/json.h"
#include "comm/group.h"

namespace moiety::train {

class Timeline {
 public:
  // Collective. Of the next `steps` steps; what a step does beyond kMostEvents is left out. `ranks`: nullptr if this process is alone.
  Timeline(const fs::path& file, int64_t steps, Activity& activity, comm::Group* ranks);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  // Rank 0 writes the file as far as it knows, whole, four times a second or less.
  void step_ended();
  // Rank 0 waits some seconds for what others have yet to say.
  void finish();

  static constexpr size_t kMostEvents = 20'000;

 private:
  using Clock = Activity::Clock;
  void align();
  void tell();
  void end(bool wait);
  void collect(bool wait);
  void write();
  bool is_first() const { return ranks_ == nullptr || ranks_->is_first(); }

  fs::path file_;
  int64_t steps_left_;
  Activity& activity_;
  comm::Group* ranks_;
  Clock::time_point begin_;       // of all ranks' times, by this rank's clock
  int64_t told_ = 0;              // steps
  std::vector<int64_t> heard_;    // steps, by rank
  std::string events_;            // of the file, parted by commas
  Clock::time_point next_write_{};
  bool is_finished_ = false;
};

// One rank's events, parted by commas. Exchanges that overlap are on different tracks.
std::string trace_events(int rank, const std::vector<Activity::Event>& events, Activity::Clock::time_point begin);

}  // namespace moiety::train
