#include "moe/tree.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "moe/gate.h"

namespace moiety::moe {
namespace {

// A leaf that is reached less is not reached: its weight is nothing beside the others', and its logit would be all noise.
constexpr float kLeastReached = 1e-12f;

struct Tree {
  float width;
  std::span<const float> decisions;  // E - 1

  float to_the_right(size_t middle) const { return smooth_step(decisions[middle - 1], width); }

  // How far each expert in [begin, end) is reached, given how far their part of the tree is.
  void reach(size_t begin, size_t end, float reached, std::span<float> reached_E) const {
    if (end - begin == 1) {
      reached_E[begin] = reached < kLeastReached ? 0 : reached;
      return;
    }
    const size_t middle = (begin + end) / 2;
    const float right = to_the_right(middle);
    reach(begin, middle, reached * (1 - right), reached_E);
    reach(middle, end, reached * right, reached_E);
  }

  // The mean of what leaves in [begin, end) are worth, weighed by how far each is reached from here; adds to each decision's
  // gradient what it can change of that.
  float worth(size_t begin, size_t end, float reached, std::span<const float> worth_E, std::span<float> ddecisions) const {
    if (end - begin == 1) return worth_E[begin];
    const size_t middle = (begin + end) / 2;
    const float right = to_the_right(middle);
    const float left_worth = worth(begin, middle, reached * (1 - right), worth_E, ddecisions);
    const float right_worth = worth(middle, end, reached * right, worth_E, ddecisions);
    ddecisions[middle - 1] = reached * (right_worth - left_worth) * smooth_step_slope(decisions[middle - 1], width);
    return (1 - right) * left_worth + right * right_worth;
  }
};

// How far every tree reaches each leaf, [K, E].
std::vector<float> reach_all(const spec::RouterRule& rule, std::span<const float> decisions, size_t experts) {
  std::vector<float> reached_KE(static_cast<size_t>(rule.experts_per_token) * experts);
  for (size_t at = 0, tree = 0; at < reached_KE.size(); at += experts, ++tree) {
    const Tree one{rule.gate_step, decisions.subspan(tree * (experts - 1), experts - 1)};
    one.reach(0, experts, 1, std::span(reached_KE).subspan(at, experts));
  }
  return reached_KE;
}

}  // namespace

float smooth_step(float x, float width) {
  const float t = x / width;
  if (t <= -0.5f) return 0;
  if (t >= 0.5f) return 1;
  return t * (1.5f - 2 * t * t) + 0.5f;
}

float smooth_step_slope(float x, float width) {
  const float t = x / width;
  return std::abs(t) >= 0.5f ? 0 : (1.5f - 6 * t * t) / width;
}

void tree_logits(const spec::RouterRule& rule, std::span<const float> decisions, std::span<const float> leaves,
                 std::span<float> logits_E) {
  const size_t experts = logits_E.size();
  const std::vector<float> reached_KE = reach_all(rule, decisions, experts);
  for (size_t e = 0; e < experts; ++e) {
    float largest = kNever, sum = 0;
    for (size_t i = e; i < leaves.size(); i += experts) {
      if (reached_KE[i] > 0) largest = std::max(largest, leaves[i]);
    }
    for (size_t i = e; i < leaves.size(); i += experts) {
      if (reached_KE[i] > 0) sum += reached_KE[i] * std::exp(leaves[i] - largest);
    }
    logits_E[e] = sum > 0 ? largest + std::log(sum) : kNever;
  }
}

void tree_logits_backward(const spec::RouterRule& rule, std::span<const float> decisions, std::span<const float> leaves,
                          std::span<const float> logits_E, std::span<const float> dlogits_E, std::span<float> ddecisions,
                          std::span<float> dleaves) {
  const size_t experts = logits_E.size();
  const std::vector<float> reached_KE = reach_all(rule, decisions, experts);
  std::vector<float> worth_E(experts);
  for (size_t at = 0, tree = 0; at < leaves.size(); at += experts, ++tree) {
    for (size_t e = 0; e < experts; ++e) {
      const size_t i = at + e;
      // What a little more of the leaf would give: nothing of leaves that are not reached, nor can decisions change those a little.
      worth_E[e] = reached_KE[i] > 0 ? dlogits_E[e] * std::exp(leaves[i] - logits_E[e]) : 0;
      dleaves[i] = worth_E[e] * reached_KE[i];
    }
    const Tree one{rule.gate_step, decisions.subspan(tree * (experts - 1), experts - 1)};
    one.worth(0, experts, 1, worth_E, ddecisions.subspan(tree * (experts - 1), experts - 1));
  }
}

}  // namespace moiety::moe
