// How unevenly a model's experts are visited along one text, and how often by neighbours: what a cache of experts lives from.
#pragma once

#include <cstdint>
#include <vector>

#include "moe/load.h"

namespace moiety::bench {

struct Skew {
  double exponent = 0;  // s, where visits fall as 1 / rank^s; fitted from the second rank on, as no expert is visited twice a token
  double repeats = 0;   // share of a token's experts that the token before visited
  double repeats_by_chance = 0;  // were each token's drawn alone, as popular as they are
};

class SkewCounter {
 public:
  SkewCounter(int layers, int experts) : load_(layers, experts), last_L_(static_cast<size_t>(layers)), tally_L_(last_L_.size()) {}

  // How a sparse layer routed the tokens that follow those of its last routing.
  void add_routing(int layer, const moe::Routing& routing);
  // Of a layer that has routed two tokens or more.
  Skew skew_of(int layer) const;

 private:
  struct Tally {
    int64_t tokens = 0, visits = 0, repeats = 0;
  };

  moe::Load load_;
  std::vector<std::vector<int32_t>> last_L_;  // experts of the last token
  std::vector<Tally> tally_L_;
};

}  // namespace moiety::bench
