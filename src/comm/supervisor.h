// Keeps a job of several ranks on this machine going while ranks are lost and come: starts the workers (comm/crew.h), notices those that end or
// hang, and says who belongs to the job. It computes nothing and loads no model.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace moiety::comm {

struct Supervision {
  int ranks = 1;                   // to begin with
  int at_least = 1;                // with fewer the job rests
  bool replaces = false;           // a lost rank by a new one
  std::vector<std::string> words;  // this program's, its name first
  std::string card;                // a file that says how to reach the supervisor, while it lives; empty: none
};

// Returns 0 once the workers have ended their work, else the exit status of the last that was left. `signal` as for launch(). Throws Error(Io)
// if no process can be started.
int supervise(const Supervision& supervision, const std::function<int()>& signal);

// Tells the supervisor whose card this is: "add", "retire", "retire 3", "status". Returns its answer. Throws Error(Input) if there is no
// such card, Error(Io) if nobody answers.
std::string tell_supervisor(const std::string& card, const std::string& request);

}  // namespace moiety::comm
