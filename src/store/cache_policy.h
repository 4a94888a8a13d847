// Which of the experts in memory makes room for another: a decision from what is known of their use, without any state of its
// own, so that a replay of a trace decides as the engine does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace moiety::store {

enum class CachePolicy {
  Lru,  // the one that was not used for the longest time
  // The one used least, where a use counts half after kHalfLife visits of its layer; of equals the one whose layer comes again
  // last. Layers come in turns: when a step visits more experts than there is room for, LRU lets each go just before it is
  // wanted, and finds nothing.
  Lfu,
};

constexpr double kHalfLife = 64;

// What is known of the use of an expert that is in memory.
struct ExpertUse {
  uint64_t last = 0;   // the number of the visit, counted over all layers, when it was used last
  double count = 0;    // uses, each counting less the longer ago it was; as of `last_of_layer`
  uint64_t last_of_layer = 0;  // the same visit, counted in its layer
};

// A visit uses it.
void use(ExpertUse& expert, uint64_t visit, uint64_t visit_of_layer);

// The smallest goes first. `visit_of_layer`: how many visits the expert's layer has had; `turns`: how many layers come before
// it comes again, of `layers`.
double keep_score(CachePolicy policy, const ExpertUse& expert, uint64_t visit_of_layer, size_t turns, size_t layers);

}  // namespace moiety::store
