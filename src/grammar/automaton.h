// A grammar as a pushdown automaton over bytes: states joined by bytes, and by calls of rules that come back to where they were
// called from. What runs it is matcher.h.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "grammar/grammar.h"

namespace moiety::grammar {

// How many calls may be open at a time. JSON takes two a level.
inline constexpr uint32_t kMostOpenCalls = 256;

struct Automaton {
  struct Edge {
    enum class Kind : uint8_t {
      Bytes,  // one byte of first … last
      Free,   // nothing is read
      Call,   // what `callee` and its followers read until one returns
    };
    Kind kind = Kind::Free;
    uint8_t first = 0, last = 0;
    uint32_t target = 0;
    uint32_t callee = 0;
  };
  // Calls `item` at least min and at most max times, then goes to `next`. How often it has is kept on the stack.
  struct Counter {
    uint32_t item, next;
    uint32_t min, max;
  };
  static constexpr uint32_t kNone = UINT32_MAX;
  struct State {
    uint32_t edges_begin = 0, edges_end = 0;
    uint32_t counter = kNone;
    uint32_t calls_needed = kNone;  // that must be open at a time, at least, until the rule returns; kNone: it never does
    bool returns = false;
    bool only_returns = false;
    bool reads = false;  // has edges of bytes
  };

  std::vector<State> states;
  std::vector<Edge> edges;  // by state
  std::vector<Counter> counters;
  uint32_t start = 0;
  // Bytes that no edge tells apart are of one class.
  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> byte_of_class;  // one of each
};

// Throws Error(Input) naming the rule that begins with itself (left recursion), repeats what may be empty too often, or has no
// text that ends; and for a grammar that is too large.
Automaton compile(const Grammar& grammar);

}  // namespace moiety::grammar
