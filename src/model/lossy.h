// What may be given up for speed when an expert is not in memory. Off unless asked for: the output is then another one, and
// depends on what happens to be in memory.
#pragma once

#include <span>
#include <vector>

#include "moe/route.h"
#include "store/expert_store.h"

namespace moiety::model {

// Shares, from 0, nothing, to 1.
struct Lossy {
  // Of an expert in memory and one that is not, whose score is higher by no more than this share of it, the first is chosen.
  float prefer_resident = 0;
  // An expert that is not in memory, and weighs less than this share of its token's heaviest, is left out; what the token's other
  // experts weigh grows to the same sum.
  float skip_missing = 0;
  // Instead of one that weighs no more than this share, in a packed file that has them, its copy of low precision is read; at 1
  // nothing else is (HOBBIT, arXiv 2411.01433).
  float low_precision = 0;

  bool is_on() const { return prefer_resident > 0 || skip_missing > 0 || low_precision > 0; }
};

// What the choice goes by: scores [T, E] of experts that are not in memory, lowered.
void prefer_resident(const store::ExpertStore& store, int layer, float share, size_t experts, size_t choices,
                     std::span<float> scores_TC);

// Leaves out visits; every token keeps its heaviest.
void skip_missing(const store::ExpertStore& store, int layer, float share, moe::Routing& routing);

// For each expert whether nobody whom it weighs much for visits it: those that weigh no more than `share` of their token's
// heaviest for all of their tokens.
std::vector<bool> unimportant(const moe::Routing& routing, float share);

}  // namespace moiety::model
