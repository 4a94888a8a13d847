// What can be read off a trace. Pure functions; `layer` counts the sparse layers from 0, and all runs must have that many.
// docs/traces.md says what each number means.
#pragma once

#include <map>
#include <span>

#include "moe/load.h"
#include "trace/runs.h"

namespace moiety::trace {

// Visits by sparse layer and expert, of all runs and of each domain's.
moe::Load load_of(const TraceHeader& header, std::span<const TokenRun> runs);
std::map<std::string, moe::Load> loads_by_domain(const TraceHeader& header, std::span<const TokenRun> runs);

// The least number of experts that together have this share of the visits; 0 if there are no visits.
int hot_set(std::span<const int64_t> visits_E, double share);

// How many other experts of the layer a sequence visits between two visits of one: what a cache that lets go of the least recently
// used must hold besides it. Visits count in their order, those of one token too.
struct ReuseDistances {
  std::vector<int64_t> visits_D;  // by distance, 0 to E - 1
  int64_t first_visits = 0;       // of an expert that the run had not visited before

  // The least distance that this share of the visits that are not first ones is at or below; -1 if there are none.
  int quantile(double share) const;
};
ReuseDistances reuse_distances(std::span<const TokenRun> runs, int layer, int num_experts);

// How many of a token's visits go to an expert that the token before it visited as well.
struct Repetition {
  double share = 0;
  double by_chance = 0;  // if experts were drawn evenly
};
Repetition repetition(std::span<const TokenRun> runs, int layer, int num_experts);

// How much the choice at one sparse layer says of the choice at the next. A token's visits at both are pairs of experts, each with
// the same part of the token's weight of 1.
struct CoActivation {
  struct Pair {
    int expert = 0, next = 0;
    int64_t tokens = 0;    // that visit both
    double share = 0;      // of the tokens that visit `expert`
    double by_chance = 0;  // of all tokens, those that visit `next`
  };
  double bits = 0;            // mutual information of the pairs
  // The same where each token's experts are paired with those of another of its run, half the run away: what the text has in
  // common, and what counting few tokens adds.
  double bits_elsewhere = 0;
  std::vector<Pair> strongest;  // by tokens * log(share / by_chance), falling
};
CoActivation co_activation(std::span<const TokenRun> runs, int layer, int num_experts, size_t strongest);

// Between two loads, as shares: 0 if they are the same, 1 bit if they have no expert in common; 0 if one has no visits.
double jensen_shannon_bits(std::span<const int64_t> visits_E, std::span<const int64_t> others_E);

}  // namespace moiety::trace
