#include "comm/launch.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "comm/watch.h"

namespace moiety::comm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kLastWords{5};

// A process group of its own: a terminal's interrupt reaches the launcher alone, which passes it on once.
pid_t start(int rank, int ranks, int port, std::vector<char*>& words) {
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail(ErrorKind::Io, "cannot start rank {}: {}", rank, std::strerror(errno));
  if (child > 0) return child;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  const auto tell = [](const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); };
  tell("RANK", std::to_string(rank));
  tell("WORLD_SIZE", std::to_string(ranks));
  tell("LOCAL_WORLD_SIZE", std::to_string(ranks));
  tell("MASTER_ADDR", "127.0.0.1");
  tell("MASTER_PORT", std::to_string(port));
  tell("TORCHELASTIC_USE_AGENT_STORE", "True");
  if (rank > 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    if (nowhere >= 0) ::dup2(nowhere, STDOUT_FILENO);
  }
  ::execv("/proc/self/exe", words.data());
  ::_exit(127);
}

class Ranks {
 public:
  Ranks(int ranks, Store& store, const std::vector<std::string>& words) : store_(store) {
    std::vector<std::string> copies = words;
    std::vector<char*> raw;
    for (std::string& word : copies) raw.push_back(word.data());
    raw.push_back(nullptr);
    try {
      for (int rank = 0; rank < ranks; ++rank) running_.push_back(start(rank, ranks, store.port(), raw));
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
      int status = 0;
      if (running_[rank] == 0 || ::waitpid(running_[rank], &status, WNOHANG) != running_[rank]) continue;
      running_[rank] = 0;
      const int ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (ended == 0 || status_ != 0) continue;
      status_ = ended;
      failed_at_ = Clock::now();
      const std::string how = WIFSIGNALED(status) ? fmt::format("was ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))
                                                  : fmt::format("ended with status {}", ended);
      say_gone(store_, {static_cast<int>(rank), how});  // unless it did itself
      if (WIFSIGNALED(status)) fmt::print(stderr, "rank {} {}\n", rank, how);
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
