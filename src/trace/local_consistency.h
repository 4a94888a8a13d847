// Whether neighbouring tokens want the same experts: two measures of Liang et al. 2025, "Not All Models Suit Expert Offloading: On
// Local Routing Consistency of Mixture-of-Expert Models" (arXiv 2505.16056). Pure functions over runs; `layer` counts the sparse
// layers from 0.
#pragma once

#include <span>

#include "trace/runs.h"

namespace moiety::trace {

// A segment is so many tokens of a run that follow one another; each token but the last ones begins one. How many (segment,
// expert) there are of which the expert is visited by c of the segment's tokens, for c = 0 to `segment`. Counts of several layers
// may be added.
std::vector<int64_t> segment_counts(std::span<const TokenRun> runs, int layer, int num_experts, int segment);

// Segment routing best performance: all tokens of a segment are given the same experts, those that at least so many of them want,
// and that bound is the one for which the F1 score of what is given against what is wanted is largest.
struct SegmentRouting {
  double srp = 0;        // that score; 1 if all tokens of each segment want the same, 0 if there are no segments
  double experts = 0;    // that a segment is given, over the mean number that a token wants
};
SegmentRouting segment_routing(std::span<const int64_t> counts);

// Segment cache best hit rate: a cache for one sequence and layer that knows the next tokens. It keeps the experts that the tokens
// from this one to `segment` - 1 later visit most often, ties to the most recently used; what is visited must be taken in. A token's
// visits are hits if they are in the cache before any of them is taken in, or if it is not full yet.
struct CacheHits {
  std::vector<int64_t> hits_S;  // of caches of 1, 2, … experts
  int64_t visits = 0;

  double rate(int slots) const { return visits == 0 ? 0 : static_cast<double>(hits_S[static_cast<size_t>(slots) - 1]) / static_cast<double>(visits); }
};
CacheHits segment_cache(std::span<const TokenRun> runs, int layer, int num_experts, int segment, int most_slots);

}  // namespace moiety::trace
