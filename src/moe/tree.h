// A gate of soft decision trees whose leaves are experts (Ibrahim et al. 2023, "COMET"). Trees decide sharply but for an interval, so
// that most leaves are not reached at all, and are differentiable everywhere.
//
// A tree over E experts halves their range again and again: its decision m - 1 parts the experts before number m from those from m on.
// A decision d goes to the latter with smooth_step(d); a leaf is reached with the product of what leads to it. Leaves weigh as a softmax
// over all trees' leaves does, each leaf's share multiplied with how far it is reached; an expert weighs what its leaves do:
//
//   logit of expert e = log of the sum over trees j of reached_je * exp(leaf_je)
//
// A softmax over these logits gives the weights. k sharp trees reach k leaves: at most k weights are not zero, and all sum to one.
#pragma once

#include <span>

#include "spec/router_rule.h"

namespace moiety::moe {

// 0 up to -width / 2, 1 from width / 2 on, the cubic with slopes of zero between (Hazimeh et al. 2020, "The Tree Ensemble Layer").
float smooth_step(float x, float width);
float smooth_step_slope(float x, float width);

// One token's decisions, [K, E - 1], and leaves, [K, E] -> logits; kNever of experts that no tree reaches.
void tree_logits(const spec::RouterRule& rule, std::span<const float> decisions, std::span<const float> leaves, std::span<float> logits_E);

// Gradients of the decisions and the leaves, given those of the logits.
void tree_logits_backward(const spec::RouterRule& rule, std::span<const float> decisions, std::span<const float> leaves,
                          std::span<const float> logits_E, std::span<const float> dlogits_E, std::span<float> ddecisions,
                          std::span<float> dleaves);

}  // namespace moiety::moe
