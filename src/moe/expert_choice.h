// Expert choice (Zhou et al. 2022, "Mixture-of-experts with expert choice routing"): in training each expert takes its tokens,
// so that all are equally busy. As a token's experts then depend on tokens that come after it, a model is served by a rule that
// looks at the token alone: its score against the expert's cut-off, of which the selection bias holds a moving average.
#pragma once

#include "moe/route.h"

namespace moiety::moe {

struct ExpertChoice {
  Routing routing;               // without weights; a token has any number of visits
  std::vector<float> cut_off_E;  // half-way between the last score that was taken and the first that wasn't
};

// Of scores [T, E] each expert takes the largest `experts_per_token * T / E`, rounded, at least one; ties to the earlier token.
ExpertChoice choose_tokens(const spec::RouterRule& rule, std::span<const float> scores_TE);

// bias += rate * (-cut-off - bias)
void follow_cut_offs(std::span<float> bias_E, std::span<const float> cut_off_E, float rate);

}  // namespace moiety::moe
