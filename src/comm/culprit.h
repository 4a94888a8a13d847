// Who is to blame for an exchange that did not end, by what ranks have said of themselves. Decides, and asks nobody.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/flight_recorder.h"

namespace moiety::comm {

// What a rank was last heard to say.
struct Seen {
  int rank = 0;
  bool is_heard = false;    // it has said anything at all
  bool is_silent = false;   // it says nothing any more
  bool has_stopped = false; // it has found an exchange broken, as this one has
  bool has_left = false;    // it has ended, and not by a failure of its own
  std::string doing;
  std::vector<Flight> newest;  // the last collective of each of its groups
};

// A rank that has ended by a failure of its own, or was killed.
struct Gone {
  int rank = 0;
  std::string how;  // "was ended by signal 9 (Killed)"
};

struct Culprit {
  int rank = 0;
  std::string deed;  // "never came to it: it is at work in step 12, data, after exchange 16"
};

// `stopped` is an exchange of this rank that is not done; `others` are the other ranks that take part in it. Nothing if nobody stands out.
std::optional<Culprit> find_culprit(const Flight& stopped, const std::vector<Seen>& others, const std::optional<Gone>& gone);

// A line for each rank.
std::string table(const std::vector<Seen>& ranks, const std::optional<Gone>& gone);

}  // namespace moiety::comm
