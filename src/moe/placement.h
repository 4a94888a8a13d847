// Which rank holds which of a layer's experts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace moiety::moe {

// Rank r holds experts [first_W1[r], first_W1[r + 1]), which may be none.
struct Placement {
  std::vector<int> first_W1;

  int num_ranks() const { return static_cast<int>(first_W1.size()) - 1; }
  int first(int rank) const { return first_W1[static_cast<size_t>(rank)]; }
  int count(int rank) const { return first_W1[static_cast<size_t>(rank) + 1] - first(rank); }
  int owner(int expert) const { return static_cast<int>(std::ranges::upper_bound(first_W1, expert) - first_W1.begin()) - 1; }
};

// As many on each rank, or one more: 64 experts on 3 ranks are 21, 21 and 22.
inline Placement spread_evenly(int experts, int ranks) {
  Placement placement;
  for (int rank = 0; rank <= ranks; ++rank) placement.first_W1.push_back(static_cast<int>(int64_t{experts} * rank / ranks));
  return placement;
}

}  // namespace moiety::moe
