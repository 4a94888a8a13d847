// The way back through a router's stages, one token at a time: what moe::score and moe::weigh do, differentiated. The choice has
// no derivative.
#pragma once

#include <span>

#include "moe/route.h"

namespace moiety::train {

// Scores of a token made to sum to one, which is what losses call a probability: softmax scores as they are, sigmoid scores over
// their sum, a softmax of scores that are logits.
void shares_of(const spec::RouterRule& rule, std::span<const float> scores_C, std::span<float> share_C);
// Adds to dscores what the gradient of the shares makes.
void shares_backward(const spec::RouterRule& rule, std::span<const float> scores_C, std::span<const float> share_C,
                     std::span<const float> dshare_C, std::span<float> dscores_C);

// Adds to dscores what the gradients of token t's mixing weights make, of all visits and of those to experts that cost nothing.
void weigh_backward(const spec::RouterRule& rule, const moe::Routing& routing, int t, std::span<const float> scores_C,
                    std::span<const float> dmix_N, std::span<const float> dmix_M, std::span<float> dscores_C);

// Writes the gradient of the logits. `dscores_C` is used up.
void score_backward(const spec::RouterRule& rule, std::span<const float> logits_C, std::span<const float> scores_C,
                    std::span<float> dscores_C, std::span<float> dlogits_C);

}  // namespace moiety::train
