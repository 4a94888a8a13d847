#include "grammar/analysis.h"

#include <algorithm>

namespace moiety::grammar {
namespace {

constexpr uint32_t kNone = Automaton::kNone;

// From one state to another of the same rule, perhaps by a call that returns.
struct Way {
  uint32_t from, target;
  uint32_t callee = kNone;
  uint32_t opens = 0;  // calls: 1, or 0 if the caller has nothing left to do (matcher.cc opens none for those)
};

std::vector<Way> list_ways(const Automaton& automaton, bool with_bytes) {
  std::vector<Way> ways;
  for (uint32_t s = 0; s < automaton.states.size(); ++s) {
    const Automaton::State& state = automaton.states[s];
    for (uint32_t e = state.edges_begin; e < state.edges_end; ++e) {
      const Automaton::Edge& edge = automaton.edges[e];
      if (edge.kind == Automaton::Edge::Kind::Call) {
        ways.push_back({s, edge.target, edge.callee, automaton.states[edge.target].only_returns ? 0u : 1u});
      } else if (with_bytes || edge.kind == Automaton::Edge::Kind::Free) {
        ways.push_back({s, edge.target});
      }
    }
    if (state.counter == kNone) continue;
    const Automaton::Counter& counter = automaton.counters[state.counter];
    ways.push_back({s, counter.next, counter.item, 1});
    if (counter.min == 0) ways.push_back({s, counter.next});
  }
  return ways;
}

// The ways that lead to each state, be it as target or as callee.
struct WaysTo {
  std::vector<uint32_t> begin, ways;

  WaysTo(size_t states, const std::vector<Way>& all) : begin(states + 1, 0) {
    for (const Way& way : all) {
      ++begin[way.target + 1];
      if (way.callee != kNone) ++begin[way.callee + 1];
    }
    for (size_t s = 0; s < states; ++s) begin[s + 1] += begin[s];
    ways.resize(begin.back());
    std::vector<uint32_t> next(begin.begin(), begin.end() - 1);
    for (uint32_t w = 0; w < all.size(); ++w) {
      ways[next[all[w].target]++] = w;
      if (all[w].callee != kNone) ways[next[all[w].callee]++] = w;
    }
  }
};

// Dijkstra's shortest paths backwards from where rules return, the length of a path being the most calls open at a time (Knuth
// 1977 for grammars). Lengths grow by one at most, so two lists do for a queue.
std::vector<uint32_t> calls_until_return(const Automaton& automaton, bool with_bytes) {
  const std::vector<Way> ways = list_ways(automaton, with_bytes);
  const WaysTo ways_to(automaton.states.size(), ways);
  std::vector<uint32_t> needed(automaton.states.size(), kNone);
  std::vector<uint32_t> now, later;
  for (uint32_t s = 0; s < automaton.states.size(); ++s) {
    if (automaton.states[s].returns) now.push_back(s);
  }
  for (uint32_t level = 0; !now.empty(); ++level) {
    while (!now.empty()) {
      const uint32_t state = now.back();
      now.pop_back();
      if (needed[state] != kNone) continue;
      needed[state] = level;
      for (uint32_t i = ways_to.begin[state]; i < ways_to.begin[state + 1]; ++i) {
        const Way& way = ways[ways_to.ways[i]];
        if (needed[way.from] != kNone || needed[way.target] == kNone) continue;
        if (way.callee != kNone && needed[way.callee] == kNone) continue;
        const uint32_t inside = way.callee == kNone ? 0 : needed[way.callee] + way.opens;
        (std::max(needed[way.target], inside) > level ? later : now).push_back(way.from);
      }
    }
    now.swap(later);
  }
  return needed;
}

// The routines that one may call before it reads a byte.
std::vector<uint32_t> first_calls(const Automaton& automaton, uint32_t start, const std::vector<uint32_t>& routine_at,
                                  const std::vector<bool>& may_be_empty, std::vector<bool>& seen) {
  std::vector<uint32_t> calls, todo = {start};
  const auto visit = [&](uint32_t state) {
    if (!seen[state]) todo.push_back(state);
    seen[state] = true;
  };
  seen[start] = true;
  while (!todo.empty()) {
    const Automaton::State& state = automaton.states[todo.back()];
    todo.pop_back();
    for (uint32_t e = state.edges_begin; e < state.edges_end; ++e) {
      const Automaton::Edge& edge = automaton.edges[e];
      const bool is_call = edge.kind == Automaton::Edge::Kind::Call;
      if (is_call) calls.push_back(routine_at[edge.callee]);
      if (edge.kind == Automaton::Edge::Kind::Free || (is_call && may_be_empty[edge.callee])) visit(edge.target);
    }
    if (state.counter == kNone) continue;
    const Automaton::Counter& counter = automaton.counters[state.counter];
    calls.push_back(routine_at[counter.item]);
    if (counter.min == 0 || may_be_empty[counter.item]) visit(counter.next);
  }
  return calls;
}

}  // namespace

std::vector<bool> find_empty(const Automaton& automaton) {
  const std::vector<uint32_t> needed = calls_until_return(automaton, false);
  std::vector<bool> may_be_empty(needed.size());
  for (size_t s = 0; s < needed.size(); ++s) may_be_empty[s] = needed[s] != kNone;
  return may_be_empty;
}

size_t find_left_recursion(const Automaton& automaton, const std::vector<Routine>& routines,
                           const std::vector<bool>& may_be_empty) {
  std::vector<uint32_t> routine_at(automaton.states.size(), kNone);
  for (size_t r = 0; r < routines.size(); ++r) routine_at[routines[r].start] = static_cast<uint32_t>(r);
  std::vector<bool> seen(automaton.states.size(), false);
  std::vector<std::vector<uint32_t>> calls;
  for (const Routine& routine : routines) {
    calls.push_back(first_calls(automaton, routine.start, routine_at, may_be_empty, seen));
  }

  // Depth first: a call of a routine that is still open closes a circle.
  enum Mark : uint8_t { kNew, kOpen, kDone };
  std::vector<Mark> marks(routines.size(), kNew);
  std::vector<std::pair<uint32_t, size_t>> open;  // a routine and how many of its calls were followed
  for (uint32_t root = 0; root < routines.size(); ++root) {
    if (marks[root] == kNew) open.push_back({root, 0});
    while (!open.empty()) {
      auto& [routine, followed] = open.back();
      marks[routine] = kOpen;
      if (followed == calls[routine].size()) {
        marks[routine] = kDone;
        open.pop_back();
        continue;
      }
      const uint32_t callee = calls[routine][followed++];
      if (marks[callee] == kOpen) return callee;
      if (marks[callee] == kNew) open.push_back({callee, 0});
    }
  }
  return routines.size();
}

std::vector<uint32_t> count_calls_needed(const Automaton& automaton) {
  return calls_until_return(automaton, true);
}

}  // namespace moiety::grammar
