// Runs a model through prompts and batches of sequences, round after round, with the limits of the machine measured between.
#pragma once

#include <functional>
#include <vector>

#include "bench/limits.h"
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

struct Result {
  Case run;
  Work work;                        // the same in every round
  std::vector<double> seconds;      // by round
  std::vector<Limits> limits;       // measured just before each round

  double tokens() const { return static_cast<double>(run.sequences * run.tokens); }
  double tokens_per_second() const;
  // What the limits would allow.
  double bound_tokens_per_second() const;
  // How much of it was reached; like the others the median over rounds, each against its own limits.
  double share_of_bound() const;
  double bytes_per_second() const;
  double operations_per_second() const;
};

struct MeasureOptions {
  int rounds = 3;  // after one to warm up and count the work
  kernel::KvType kv = kernel::KvType::F32;
  size_t limit_memory = size_t{1} << 30;  // bytes to measure the read bandwidth with
  std::function<void(size_t done, size_t all)> progress;  // called now and then with how many tokens have been run
  // Records the round to warm up, whose tokens, and so whose routing, are those of the others; the domains are the phases.
  trace::TraceRecorder* trace = nullptr;
};

// All cases in turn, round after round. Tokens are random: sequences differ, and so their routing, and rounds do not. Throws
// Error(Input) if a case does not fit the model's context.
std::vector<Result> measure(model::Transformer& transformer, const kernel::Compute& compute, const std::vector<Case>& cases,
                            const MeasureOptions& options);

}  // namespace moiety::bench
