// SparseMixer in training (Liu et al. 2024, "GRIN: gradient-informed MoE"): experts are drawn by chance from those that come close
// to the best, and the gradient of the choice is estimated from how the output changes with the weight of what was drawn, by
// Heun's third-order rule, instead of being taken for nothing. At inference the best are chosen (moe::choose_experts).
#pragma once

#include <span>

#include "base/random.h"
#include "moe/route.h"

namespace moiety::train {

// Draws a token's experts_per_token, one after the other, and appends the visits with their weights: an expert's probability
// among those that it was drawn from; of one that isn't the best of them a third of that, three times out of four.
void draw_experts(const spec::RouterRule& rule, std::span<const float> logits_E, Random& random, moe::Routing& routing);

// Adds to the gradient of the scores, which are logits, what those of a token's weights make.
void draw_backward(const spec::RouterRule& rule, std::span<const float> logits_E, std::span<const int32_t> drawn,
                   std::span<const float> dmix, std::span<float> dlogits_E);

}  // namespace moiety::train
