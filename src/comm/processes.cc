#include "comm/processes.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace moiety::comm {

pid_t start_process(std::vector<std::string> words, const Variables& variables, bool is_silent) {
  std::vector<char*> raw;
  for (std::string& word : words) raw.push_back(word.data());
  raw.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail(ErrorKind::Io, "cannot start a process: {}", std::strerror(errno));
  if (child > 0) return child;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  for (const auto& [name, value] : variables) ::setenv(name, value.c_str(), 1);
  if (is_silent) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    if (nowhere >= 0) ::dup2(nowhere, STDOUT_FILENO);
  }
  ::execv("/proc/self/exe", raw.data());
  ::_exit(127);
}

Variables rank_variables(int rank, int ranks, int store_port) {
  const std::string all = std::to_string(ranks);
  return {{"RANK", std::to_string(rank)},
          {"WORLD_SIZE", all},
          {"LOCAL_WORLD_SIZE", all},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(store_port)},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

Ended look_after(pid_t child) {
  int status = 0;
  const pid_t found = ::waitpid(child, &status, WNOHANG);
  if (found < 0 && errno != EINTR) return {true, 1, false, "is nobody's child"};
  if (found != child) return {};
  if (WIFSIGNALED(status)) return {true, 128 + WTERMSIG(status), true, fmt::format("was ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))};
  return {true, WEXITSTATUS(status), false, fmt::format("ended with status {}", WEXITSTATUS(status))};
}

}  // namespace moiety::comm
