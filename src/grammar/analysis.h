// What can be said of an automaton before it runs: which states may return without reading, which rules begin with themselves,
// how many calls must be open at a time until a state returns. All in time linear in the automaton.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "grammar/automaton.h"

namespace moiety::grammar {

// A rule, or the repeated part of one, and where it starts.
struct Routine {
  std::string name;
  uint32_t start;
};

// Of each state, whether its rule may return from there without reading a byte.
std::vector<bool> find_empty(const Automaton& automaton);

// A routine that may call itself before a byte was read; routines.size() if there is none.
size_t find_left_recursion(const Automaton& automaton, const std::vector<Routine>& routines,
                           const std::vector<bool>& may_be_empty);

// Of each state: open calls at a time, at least, until its rule returns; Automaton::kNone if it never does.
std::vector<uint32_t> count_calls_needed(const Automaton& automaton);

}  // namespace moiety::grammar
