// Which experts a token visits, and with what weight. Pure functions over scores: training calls choose_experts on
// detached scores and weighs with gradients itself; inference calls route.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "spec/router_rule.h"

namespace moiety::moe {

// For each token a list of (expert, weight), ragged: token t's visits are [begin_T1[t], begin_T1[t + 1]).
struct Routing {
  int num_experts = 0;
  std::vector<int32_t> begin_T1 = {0};  // T + 1 positions in the next two
  std::vector<int32_t> experts_N;       // in the order of falling score
  std::vector<float> weights_N;         // empty while only the choice has been made

  int num_tokens() const { return static_cast<int>(begin_T1.size()) - 1; }
  int num_visits() const { return static_cast<int>(experts_N.size()); }
};

// Score: turns logits [E] of one token into scores, in place.
void score(const spec::RouterRule& rule, std::span<float> logits_E);

// Select: for each row of scores [T, E] the experts_per_token largest of score + bias among the groups that take part,
// falling, ties to the lower id; a NaN counts as the smallest. `bias_E` is empty or has one number an expert.
Routing choose_experts(const spec::RouterRule& rule, std::span<const float> scores_TE, std::span<const float> bias_E);

// Weigh: mixing weights of a choice that has been made among scores [T, E].
void weigh(const spec::RouterRule& rule, std::span<const float> scores_TE, Routing& routing);

// Scores [T, E] as they are when the choice is made -> other scores, which the choice goes by; weights stay those of the scores.
using Preference = std::function<void(std::span<float> scores_TE)>;

// All three stages: logits [T, E] -> experts and mixing weights.
Routing route(const spec::RouterRule& rule, std::span<const float> logits_TE, std::span<const float> bias_E,
              const Preference& prefer = {});

}  // namespace moiety::moe
