// The ranks of a job that goes on when some of them are lost, leave or come. A supervisor, which computes nothing, keeps the store and says who
// belongs to the job; each of its words is a generation, with groups of its own. Workers are known by numbers that never change; a rank is
// a worker's place in the generation.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "comm/group.h"

namespace moiety::comm {

struct Generation {
  int64_t number = 0;
  std::vector<int> workers;  // by rank; those that were there before come first
  int64_t step = -1;         // to go on from: the newest that all who were there have kept; -1: none
  std::string why;           // for people
  bool is_resting = false;   // too few are left: they are to keep what they have, and wait
  double lost_at = 0;        // when the supervisor noticed a loss, in seconds of the monotonic clock; 0: none
};

// What workers and the supervisor tell each other: keys of a store that no generation shares with another.
namespace crew {
Place meeting_place(const Place& place);
std::string said_by(int64_t generation, int worker);
std::string joins(int worker);
std::string beat_of(int worker);
std::string generation_key(int64_t number);
inline const std::string kWanted = "wanted";  // the generation that the supervisor wants next
std::string text_of(const Generation& generation);
Generation generation_of(const std::string& text);
double now();  // seconds of the monotonic clock
}  // namespace crew

class Crew {
 public:
  // As place.worker, in the first generation that it belongs to. Throws as Group's constructor does.
  Crew(const Place& place, const Patience& patience, const std::string& alike);
  ~Crew();

  Group& ranks() { return *group_; }
  const Generation& generation() const { return generation_; }
  // Whether the supervisor wants another generation.
  bool is_change_wanted();
  // Leaves this generation for the next one that stands; `steps`: those that this worker has kept its part of. False if this worker does not
  // belong to it: it was asked to leave. Throws Error(Io) if the supervisor is gone.
  bool regroup(std::span<const int64_t> steps);
  // When this worker left the last generation, and when it met the others of this one; in seconds of crew::now().
  double left_at() const { return left_at_; }
  double met_at() const { return met_at_; }
  // How long a step takes, for the supervisor, by which it knows who is lost.
  void set_step_seconds(double seconds) { step_seconds_ = seconds; }

 private:
  void beat();
  Generation wait_for(int64_t number);
  bool join(int64_t number, std::span<const int64_t> steps);

  Place place_;
  Patience patience_;
  std::string alike_;
  Store store_;
  Generation generation_;
  std::unique_ptr<Group> group_;
  double left_at_ = 0, met_at_ = 0;
  std::atomic<double> step_seconds_ = 0;
  std::atomic<bool> ends_ = false;
  std::thread beating_;
};

}  // namespace moiety::comm
