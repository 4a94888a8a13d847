#include "grammar/automaton.h"

#include <algorithm>
#include <bitset>
#include <string>

#include "base/error.h"
#include "grammar/analysis.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostStates = 400'000;
constexpr uint32_t kMostEmptyRepeats = 256;

// Thompson's construction (1968), an expression at a time.
class Compiler {
 public:
  explicit Compiler(const Grammar& grammar) : grammar_(grammar) {}

  Automaton compile() {
    for (const Grammar::Rule& rule : grammar_.rules()) routines_.push_back({rule.name, add_state()});
    for (size_t i = 0; i < grammar_.rules().size(); ++i) {
      const Grammar::Rule& rule = grammar_.rules()[i];
      require(rule.is_defined, "grammar: the rule \"{}\" is used and not defined", rule.name);
      current_ = i;
      automaton_.states[build(rule.body, routines_[i].start)].returns = true;
    }
    automaton_.start = routines_[static_cast<uint32_t>(grammar_.root())].start;
    sort_edges();
    find_last_states();
    find_byte_classes();
    refuse_what_never_ends();
    return std::move(automaton_);
  }

 private:
  using Edge = Automaton::Edge;

  uint32_t add_state() {
    require(automaton_.states.size() < kMostStates, "grammar: more than {} states", kMostStates);
    automaton_.states.emplace_back();
    return static_cast<uint32_t>(automaton_.states.size() - 1);
  }
  void add_edge(uint32_t from, Edge edge) {
    automaton_.edges.push_back(edge);
    edge_from_.push_back(from);
  }
  void add_free(uint32_t from, uint32_t to) { add_edge(from, {.kind = Edge::Kind::Free, .target = to}); }
  uint32_t add_bytes(uint32_t from, uint8_t first, uint8_t last, uint32_t to) {
    add_edge(from, {.kind = Edge::Kind::Bytes, .first = first, .last = last, .target = to});
    return to;
  }

  // Joins `from` to a state, which is returned, by all texts of the expression. No edge ever leads back to `from` itself.
  uint32_t build(Expr expr, uint32_t from) {
    const Node& node = grammar_.node(expr);
    switch (node.kind) {
      case Node::Kind::Text:
        for (const char c : node.text) from = add_bytes(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), add_state());
        return from;
      case Node::Kind::Set:
        return build_set(node.set, from);
      case Node::Kind::Sequence:
        for (const Expr part : node.parts) from = build(part, from);
        return from;
      case Node::Kind::Choice: {
        const uint32_t end = add_state();
        for (const Expr part : node.parts) add_free(build(part, from), end);
        return end;
      }
      case Node::Kind::Repeat:
        return build_repeat(node, from);
      case Node::Kind::Rule: {
        const uint32_t end = add_state();
        const uint32_t callee = routines_[static_cast<uint32_t>(node.rule)].start;
        add_edge(from, {.kind = Edge::Kind::Call, .target = end, .callee = callee});
        return end;
      }
    }
    return from;
  }

  // Encodings share their last bytes where those may be any continuation.
  uint32_t build_set(const CodeSet& set, uint32_t from) {
    const uint32_t end = add_state();
    std::array<uint32_t, 4> continuations = {end, Automaton::kNone, Automaton::kNone, Automaton::kNone};
    const auto any_continuations = [&](int count) {
      for (int i = 1; i <= count; ++i) {
        if (continuations[i] != Automaton::kNone) continue;
        continuations[i] = add_state();
        add_bytes(continuations[i], 0x80, 0xbf, continuations[i - 1]);
      }
      return continuations[count];
    };
    for (const ByteRanges& bytes : utf8_ranges(set)) {
      int own = bytes.count;
      while (own > 1 && bytes.ranges[own - 1].first == 0x80 && bytes.ranges[own - 1].last == 0xbf) --own;
      uint32_t at = from;
      for (int i = 0; i < own; ++i) {
        const uint32_t to = i + 1 < own ? add_state() : any_continuations(bytes.count - own);
        at = add_bytes(at, bytes.ranges[i].first, bytes.ranges[i].last, to);
      }
    }
    return end;
  }

  uint32_t build_repeat(const Node& node, uint32_t from) {
    const Expr item = node.parts[0];
    if (node.max == 1) {
      const uint32_t end = add_state();
      add_free(build(item, from), end);
      add_free(from, end);
      return end;
    }
    const uint32_t loop = add_state();
    add_free(from, loop);
    if (node.max == kUnlimited && node.min <= 1) {
      const uint32_t last = build(item, loop);
      add_free(last, loop);
      const uint32_t end = add_state();
      add_free(node.min == 0 ? loop : last, end);
      return end;
    }
    const uint32_t start = add_state(), end = add_state();
    counter_routine_.push_back(routines_.size());
    routines_.push_back({routines_[current_].name, start});
    automaton_.states[loop].counter = static_cast<uint32_t>(automaton_.counters.size());
    automaton_.counters.push_back({start, end, node.min, node.max});
    const uint32_t last = build(item, start);
    automaton_.states[last].returns = true;
    return end;
  }

  void sort_edges() {
    std::vector<uint32_t> begin(automaton_.states.size() + 1, 0);
    for (const uint32_t from : edge_from_) ++begin[from + 1];
    for (size_t s = 0; s < automaton_.states.size(); ++s) begin[s + 1] += begin[s];
    std::vector<uint32_t> next(begin.begin(), begin.end() - 1);
    std::vector<Edge> sorted(automaton_.edges.size());
    for (size_t e = 0; e < sorted.size(); ++e) sorted[next[edge_from_[e]]++] = automaton_.edges[e];
    automaton_.edges = std::move(sorted);
    for (size_t s = 0; s < automaton_.states.size(); ++s) {
      Automaton::State& state = automaton_.states[s];
      state.edges_begin = begin[s];
      state.edges_end = begin[s + 1];
      for (uint32_t e = begin[s]; e < begin[s + 1]; ++e) state.reads |= automaton_.edges[e].kind == Edge::Kind::Bytes;
    }
  }

  // Along edges that are the only ones of their states: choices end so.
  void find_last_states() {
    for (Automaton::State& state : automaton_.states) {
      const Automaton::State* last = &state;
      for (int steps = 0; steps < 100 && last->edges_end == last->edges_begin + 1 && !last->returns; ++steps) {
        const Edge& edge = automaton_.edges[last->edges_begin];
        if (edge.kind != Edge::Kind::Free) break;
        last = &automaton_.states[edge.target];
      }
      state.only_returns = last->returns && last->edges_begin == last->edges_end && last->counter == Automaton::kNone;
    }
  }

  void find_byte_classes() {
    std::bitset<257> begins;
    begins[0] = true;
    for (const Edge& edge : automaton_.edges) {
      if (edge.kind != Edge::Kind::Bytes) continue;
      begins[edge.first] = true;
      begins[edge.last + 1] = true;
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (begins[byte]) automaton_.byte_of_class.push_back(static_cast<uint8_t>(byte));
      automaton_.class_of[byte] = static_cast<uint8_t>(automaton_.byte_of_class.size() - 1);
    }
  }

  void refuse_what_never_ends() {
    const std::vector<bool> may_be_empty = find_empty(automaton_);
    // What repeats nothing gains nothing: such an item needn't come at all.
    for (size_t c = 0; c < automaton_.counters.size(); ++c) {
      Automaton::Counter& counter = automaton_.counters[c];
      if (!may_be_empty[counter.item]) continue;
      require(counter.max <= kMostEmptyRepeats || counter.max == kUnlimited,
              "grammar: the rule \"{}\" repeats what may be empty more than {} times", routines_[counter_routine_[c]].name,
              kMostEmptyRepeats);
      counter.min = 0;
    }
    const size_t recursive = find_left_recursion(automaton_, routines_, may_be_empty);
    require(recursive == routines_.size(), "grammar: the rule \"{}\" begins with itself (left recursion)",
            recursive < routines_.size() ? routines_[recursive].name : "");

    const std::vector<uint32_t> needed = count_calls_needed(automaton_);
    for (size_t s = 0; s < needed.size(); ++s) automaton_.states[s].calls_needed = needed[s];
    const std::string& root = grammar_.rules()[static_cast<uint32_t>(grammar_.root())].name;
    require(needed[automaton_.start] != Automaton::kNone, "grammar: no text of the rule \"{}\" ever ends", root);
    require(needed[automaton_.start] <= kMostOpenCalls, "grammar: the rule \"{}\" nests deeper than {}", root, kMostOpenCalls);
  }

  const Grammar& grammar_;
  Automaton automaton_;
  std::vector<uint32_t> edge_from_;
  std::vector<Routine> routines_;         // the grammar's rules, then the repeated parts
  std::vector<size_t> counter_routine_;  // of each counter's item
  size_t current_ = 0;
};

}  // namespace

Automaton compile(const Grammar& grammar) {
  return Compiler(grammar).compile();
}

}  // namespace moiety::grammar
