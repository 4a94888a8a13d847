// Which experts of the next layer follow those of this one: counted from what was seen, as ExpertFlow (arXiv 2410.17954) predicts
// a token's path, from where it has been to where it goes.
#pragma once

#include <span>
#include <vector>

#include "store/cache_policy.h"

namespace moiety::store {

class PathTable {
 public:
  explicit PathTable(std::span<const size_t> experts_L);

  // One token's choices in a layer and in the next layer that has experts.
  void learn(int layer, std::span<const Demand> chosen, int next, std::span<const Demand> chosen_next);
  // The next layer's experts that followed these, the likeliest first; no more than `most`.
  std::vector<int> rank(int layer, std::span<const Demand> chosen, int next, size_t most) const;

 private:
  std::vector<size_t> experts_L_;
  std::vector<std::vector<float>> followed_LEE_;  // times that an expert of the next layer came after one of this, fading
};

}  // namespace moiety::store
