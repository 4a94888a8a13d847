// Which experts of a layer should change homes, so that the rank that most visits go to gets fewer: a pure function of the visits, from
// which every rank draws the same conclusion.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/placement.h"

namespace moiety::moe {

// In visits, computed by one rank.
struct MoveCosts {
  double swap = 0;      // what two experts that change places take at either end
  double noise = 0.02;  // a share of the slowest rank's visits: to get rid of less is not worth a move, as it may be chance
};

struct Homes {
  Placement placement;
  int swaps = 0;  // twice as many experts have changed homes
  int64_t slowest_before = 0, slowest_after = 0;  // visits to the rank that gets most
};

// Visits to each rank's experts.
std::vector<int64_t> visits_by_rank(std::span<const int64_t> visits_E, const Placement& placement);

// Pairs of experts change places between two ranks, so that each rank keeps as many as it has; experts of different kinds, where kind k
// begins with expert kinds_K[k], don't. The slowest rank gives one expert and takes a colder one, as makes the slower of both fastest,
// as long as both are then faster than it was; of this sequence of swaps so many first are made as gain most, what they cost taken off,
// or none. Never is the slowest rank slower than before. Among equals the first experts, and the fewest swaps.
Homes rebalanced(std::span<const int64_t> visits_E, const Placement& placement, std::span<const int> kinds_K, const MoveCosts& costs);

}  // namespace moiety::moe
