// A trace by sequence instead of by step: what the tokens of one sequence visited one after the other.
#pragma once

#include <span>
#include <unordered_map>

#include "trace/routing_trace.h"

namespace moiety::trace {

// Visits at one layer, by token.
struct LayerRun {
  std::vector<uint32_t> begin_T1 = {0};
  std::vector<uint16_t> experts_N;  // in the order of falling score

  size_t tokens() const { return begin_T1.size() - 1; }
  std::span<const uint16_t> of(size_t token) const {
    return std::span(experts_N).subspan(begin_T1[token], begin_T1[token + 1] - begin_T1[token]);
  }
};

// Tokens of one sequence whose positions follow one another without a gap. A sequence that was not traced from its beginning to
// its end, or went back (a prompt that was changed), is several runs.
struct TokenRun {
  uint64_t sequence = 0;
  uint64_t first_position = 0;
  std::string domain;
  std::vector<LayerRun> by_sparse_layer;

  size_t tokens() const { return by_sparse_layer.empty() ? 0 : by_sparse_layer[0].tokens(); }
};

// Takes a trace's steps in turn; takes two bytes of memory a visit.
class RunCollector {
 public:
  void add(const StepTrace& step);
  std::span<const TokenRun> runs() const { return runs_; }

 private:
  TokenRun& run_of(const Part& part, size_t layers);

  std::vector<TokenRun> runs_;
  std::unordered_map<uint64_t, size_t> newest_;  // of each sequence, its index in runs_
};

}  // namespace moiety::trace
