// Experts' token counts as multiples of a tile of rows, so that no product of matrices works on a tile that is partly empty (Guo et al.
// 2025, "SonicMoE", token rounding). For training alone: a token's experts depend on the other tokens' scores.
#pragma once

#include <span>

#include "moe/route.h"

namespace moiety::moe {

// Each expert's count becomes the nearest multiple of `tile` (half a tile: the upper; never more than there are tokens): it leaves the
// tokens that chose it with the lowest scores, or takes the best of those that didn't, ties to the lower token. An expert changes by
// half a tile at most; a token's number of experts varies. `scores_TE` [T, E] are those that mixing weights are made of; the result has
// none yet, and each token's experts in the order of falling score, ties to the lower id.
Routing round_tokens(const Routing& routing, std::span<const float> scores_TE, int tile);

}  // namespace moiety::moe
