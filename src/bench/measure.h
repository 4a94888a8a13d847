// Runs a model through prompts and batches of sequences, round after round, with the limits of the machine measured between.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "bench/limits.h"
#include "bench/tokens.h"
#include "bench/work.h"
#include "model/transformer.h"
#include "trace/trace_recorder.h"

namespace moiety::bench {

enum class Phase {
  Prefill,  // prompts in chunks, as engine/generate feeds them
  Decode,   // a token of every sequence a step
};

struct Case {
  Phase phase = Phase::Decode;
  size_t sequences = 1;  // side by side, each with a cache of its own
  size_t tokens = 0;     // of each sequence
  size_t depth = 0;      // tokens that each cache holds before
};

// Of a case.
struct Round {
  double seconds = 0;
  Limits limits;  // measured just before
  Work work;
  store::StoreStatistics experts;  // what reading them was; nothing if all stay in memory
};

struct Result {
  Case run;
  std::vector<Round> rounds;

  double tokens() const { return static_cast<double>(run.sequences * run.tokens); }
  // Medians over rounds, of each by itself.
  double median_of(const std::function<double(const Round&)>& value) const;
  double tokens_per_second() const;
  // What the limits would allow.
  double bound_tokens_per_second() const;
  // How much of it was reached, each round against its own limits.
  double share_of_bound() const;
  double bytes_per_second() const;
  double operations_per_second() const;
  // Of all rounds together.
  store::StoreStatistics experts() const;
};

struct MeasureOptions {
  int rounds = 3;  // after one to warm up
  kernel::KvType kv = kernel::KvType::F32;
  size_t limit_memory = size_t{1} << 30;  // bytes to measure the read bandwidth with
  std::function<void(size_t done, size_t all)> progress;  // called now and then with how many tokens have been run
  TokenKind tokens = TokenKind::Random;
  bool new_tokens = false;    // in each round; else those of the round that warms up
  double disk_bandwidth = 0;  // bytes a second; 0: measured, where experts are streamed
  // Records the round to warm up; the domains are the phases.
  trace::TraceRecorder* trace = nullptr;
};

// By depth the tokens that each cache has room for: all are there at the same time.
std::map<size_t, std::vector<size_t>> cache_capacities(const std::vector<Case>& cases);

// What a sequence of a case is fed in a round: 0 warms up.
std::vector<int32_t> tokens_of(const spec::ModelSpec& spec, const std::vector<Case>& cases, const MeasureOptions& options,
                               const TokenPlace& place);

// All cases in turn, round after round. Sequences and cases differ in their tokens, and so in their routing; rounds do where
// options say so, as they must where experts that are not in memory are read: a cache finds what it has seen. Throws
// Error(Input) if a case does not fit the model's context.
std::vector<Result> measure(model::Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
                            const MeasureOptions& options);

}  // namespace moiety::bench
