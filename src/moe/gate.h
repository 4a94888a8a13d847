// Gates that learn nothing: a token's experts by its id, or by chance. Functions of what is said here and of nothing else, so that
// training and inference, a token alone and in a crowd, find the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spec/router_rule.h"

namespace moiety::moe {

// The logit of an expert that is out of the question: a softmax makes exactly nothing of it, and sums with it stay finite.
inline constexpr float kNever = -1e9f;

// A layer's experts for each token id, [V, K] (Roller et al. 2021, "Hash Layers"): chosen by a hash, all different, and balanced:
// among each num_experts ids that follow one another in a shuffled order every expert is chosen K times.
std::vector<int32_t> hashed_experts(const spec::RouterRule& rule, int layer, int vocab_size);

// What a random choice is for. `draw` tells batches of training from one another; inference is draw 0.
struct Occasion {
  int layer = 0;
  size_t position = 0;  // of the token in its sequence
  int32_t token = 0;
  uint64_t draw = 0;
};
// K different experts, every set of them as likely as any other (Zuo et al. 2022, "THOR").
void random_experts(const spec::RouterRule& rule, const Occasion& occasion, std::span<int32_t> experts_K);

// Whether a layer's choice is made before the layer begins; the first one's perhaps not.
inline bool chooses_ahead(const spec::RouterRule& rule) {
  const bool is_early = !rule.is_learnt() || rule.gate == spec::Gate::Ahead || rule.gate == spec::Gate::Decoupled;
  return is_early && !rule.gating_residual;
}

// Logits by which a softmax shares the weight equally among these experts.
void choose(std::span<const int32_t> experts_K, std::span<float> logits_E);

}  // namespace moiety::moe
