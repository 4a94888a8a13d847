// Which experts a token visits, and with what weight, in the three stages of a spec::RouterRule. Pure functions over
// scores: inference calls route; training calls the stages one by one and goes back through them itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "spec/router_rule.h"

namespace moiety::moe {

// For each token a list of (expert, weight), ragged: token t's visits are [begin_T1[t], begin_T1[t + 1]).
struct Visits {
  std::vector<int32_t> begin_T1 = {0};  // T + 1 positions in the next two
  std::vector<int32_t> experts_N;
  std::vector<float> weights_N;
};

struct Routing {
  int num_experts = 0;
  std::vector<int32_t> begin_T1 = {0};  // T + 1 positions in the next two
  std::vector<int32_t> experts_N;       // in the order of falling score
  std::vector<float> weights_N;         // empty while only the choice has been made
  // Visits to experts that cost nothing, whose ids go on after the real ones': apart, as no dispatch, store or trace has
  // anything to do with them. For all tokens, or for none if the rule has no such experts.
  Visits zero_cost;

  int num_tokens() const { return static_cast<int>(begin_T1.size()) - 1; }
  int num_visits() const { return static_cast<int>(experts_N.size()); }
};

// Score: turns logits [C] of one token, one for each of the rule's choices, into scores, in place.
void score(const spec::RouterRule& rule, std::span<float> logits_C);

// Select: for each row of scores [T, C] the choices that spec::Select says, by falling score + bias, ties to the lower id; a
// NaN counts as the smallest. `bias_C` is empty or has one number a choice.
Routing choose_experts(const spec::RouterRule& rule, std::span<const float> scores_TC, std::span<const float> bias_C);

// Weigh: mixing weights of a choice that has been made among scores [T, C].
void weigh(const spec::RouterRule& rule, std::span<const float> scores_TC, Routing& routing);
// What the chosen scores of token t are multiplied with: its scale, over their sum if they are renormalised. Null experts
// have no share.
float mixing_factor(const spec::RouterRule& rule, std::span<const float> scores_C, const Routing& routing, int t);

// Scores [T, C] as they are when the choice is made -> other scores, which the choice goes by; weights stay those of the scores.
using Preference = std::function<void(std::span<float> scores_TC)>;

// All three stages: logits [T, C] -> experts and mixing weights.
Routing route(const spec::RouterRule& rule, std::span<const float> logits_TC, std::span<const float> bias_C,
              const Preference& prefer = {});

// The visits of more tokens.
void append(const Routing& part, Routing& whole);

}  // namespace moiety::moe
