// Smaller experts out of one dense feed-forward by what it does on texts of several domains (Cai et al. 2024, "Read-ME").
#pragma once

#include <span>

#include "format/importance.h"
#include "upcycle/gate.h"
#include "upcycle/made_model.h"

namespace moiety::upcycle {

struct Split {
  int expert_hidden = 0;      // hidden units an expert gets; 0: half of the dense ones
  int experts_per_token = 0;  // 0: two, or one if there is one
  int dense_layers = 0;       // so many first layers stay as they are
  NewGate gate;
  uint64_t seed = 1;
};

// An expert a domain: those hidden units that give most on its text, by the mean square of a unit's activation times that of
// its column of down; `domains` are what moiety importance wrote of the dense model on each. Experts may share units: those that
// all of a token's experts have count once, as mixing weights sum to one. What no expert has is lost, so the function is
// preserved only as far as units do little. Throws Error(Input) if the statistics are not this model's.
MadeModel split_by_use(MadeModel model, std::span<const format::Importance> domains, const Split& how);

// The `count` largest, ties to the lower index, in rising order of their indices.
std::vector<int> largest(std::span<const double> values, int count);

}  // namespace moiety::upcycle
