// Numbers that lie alike on all ranks of a group, of which each rank has a stretch of its own: rank r has [begin_R1[r], begin_R1[r + 1]).
// Gloo has neither a reduce-scatter nor a gathering of unequal parts; these two send what those would. Collective.
#pragma once

#include <cstddef>
#include <span>

#include "comm/group.h"

namespace moiety::comm {

// The rank's own stretch becomes the sum over all ranks, in their order; the others are of no more use.
void sum_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1);
// Each rank's stretch comes to all.
void share_stretches(Group& group, std::span<float> numbers, std::span<const size_t> begin_R1);

}  // namespace moiety::comm
