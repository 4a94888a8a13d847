#include "comm/launch.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/say.h"
#include "comm/processes.h"
#include "comm/watch.h"

namespace moiety::comm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLastWords{5};

class Ranks {
 public:
  Ranks(int ranks, Store& store, const std::vector<std::string>& words) : store_(store) {
    try {
      for (int rank = 0; rank < ranks; ++rank) running_.push_back(start_process(words, rank_variables(rank, ranks, store.port()), /*is_silent=*/rank > 0));
    } catch (...) {
      end(SIGKILL);
      throw;
    }
  }

  // Until all have ended.
  int wait(const std::function<int()>& signal) {
    bool told = false;
    while (left() > 0) {
      collect();
      if (signal() != 0 && !told) end(SIGTERM);
      told = told || signal() != 0;
      if (status_ != 0 && !told && Clock::now() - failed_at_ > kLastWords) end(SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return status_;
  }

 private:
  size_t left() const { return static_cast<size_t>(std::count_if(running_.begin(), running_.end(), [](pid_t child) { return child > 0; })); }
  void end(int signal) {
    for (const pid_t child : running_) {
      if (child > 0) ::kill(child, signal);
    }
  }
  void collect() {
    for (size_t rank = 0; rank < running_.size(); ++rank) {
      if (running_[rank] == 0) continue;
      const Ended ended = look_after(running_[rank]);
      if (!ended.has_ended) continue;
      running_[rank] = 0;
      if (ended.status == 0 || status_ != 0) continue;
      status_ = ended.status;
      failed_at_ = Clock::now();
      say_gone(store_, {static_cast<int>(rank), ended.how});  // unless it did itself
      if (ended.was_killed) say("rank {} {}\n", rank, ended.how);
    }
  }

  Store& store_;
  std::vector<pid_t> running_;  // 0: has ended
  int status_ = 0;
  Clock::time_point failed_at_;
};

}  // namespace

int launch(int ranks, const std::vector<std::string>& words, const std::function<int()>& signal) {
  Store store(ranks);
  return Ranks(ranks, store, words).wait(signal);
}

}  // namespace moiety::comm
