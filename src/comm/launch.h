// Ranks on this machine: the program that is running, several times over.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace moiety::comm {

// Starts `ranks` processes of this program with `words` (the program's name first) and the variables that comm::place_in reads, keeps the
// store in which they meet, and waits for their end. Only rank 0 writes to stdout. `signal` tells which signal has come so far, 0: none;
// the ranks are told once. When one fails or is killed, the others get some seconds to say what they saw of it, and are ended.
// Returns 0 if all did, else the exit status of the first that did not, 128 and the signal's number if it was killed, which is
// said on stderr. Throws Error(Io) if no process can be started.
int launch(int ranks, const std::vector<std::string>& words, const std::function<int()>& signal);

}  // namespace moiety::comm
