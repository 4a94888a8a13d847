// Processes of this program on this machine.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace moiety::comm {

using Variables = std::vector<std::pair<const char*, std::string>>;

// Starts this program with `words` (its name first) and these variables besides its own, in a process group of its own (a terminal's interrupt
// reaches the launcher alone, which passes it on once), to end when this process does; `is_silent`: what it writes to stdout goes
// nowhere. Throws Error(Io).
pid_t start_process(std::vector<std::string> words, const Variables& variables, bool is_silent);

// As which of how many ranks a process is to be started, for comm::place_in; this one keeps their store at a port of the loopback.
Variables rank_variables(int rank, int ranks, int store_port);

// A child that has ended: its exit status, or 128 and the signal's number, and the same in words; 0 and "" otherwise.
struct Ended {
  bool has_ended = false;
  int status = 0;
  bool was_killed = false;
  std::string how;  // "was ended by signal 9 (Killed)"
};
Ended look_after(pid_t child);

}  // namespace moiety::comm
