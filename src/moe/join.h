// What several routings of the same tokens are together: of the iterations of a chain of experts.
#pragma once

#include <span>

#include "moe/route.h"

namespace moiety::moe {

// All visits, a token's one routing after the other. Of one routing it is that routing.
Routing join_visits(std::span<const Routing* const> routings);

// Each token's experts once, in the order of their first visits, each with the sum of its weights.
Routing without_repeats(const Routing& routing);

}  // namespace moiety::moe
