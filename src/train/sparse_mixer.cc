#include "train/sparse_mixer.h"

#include <algorithm>
#include <cmath>

namespace moiety::train {
namespace {

// A draw other than the best one stands for a point on the way from nothing to its whole weight: at a third of it, or with this
// chance at its end.
constexpr double kChanceOfWhole = 0.25;

// The probabilities of those not yet drawn that come close to the best of them; the others have none.
std::vector<float> close_ones(float reach, std::span<const float> logits_E, std::span<const int32_t> drawn) {
  std::vector<float> p_E(logits_E.begin(), logits_E.end());
  for (const int32_t e : drawn) p_E[static_cast<size_t>(e)] = -INFINITY;
  const float top = *std::ranges::max_element(p_E);
  float sum = 0;
  for (size_t e = 0; e < p_E.size(); ++e) {
    const bool far = (top - p_E[e]) / std::max(std::abs(logits_E[e]), top) > reach;
    sum += p_E[e] = far || std::isinf(p_E[e]) ? 0.0f : std::exp(p_E[e] - top);
  }
  for (float& p : p_E) p /= sum;
  return p_E;
}

size_t draw(std::span<const float> p_E, double chance) {
  size_t last = 0;
  for (size_t e = 0; e < p_E.size(); ++e) {
    if (p_E[e] == 0) continue;
    last = e;
    chance -= p_E[e];
    if (chance < 0) break;
  }
  return last;
}

}  // namespace

void draw_experts(const spec::RouterRule& rule, std::span<const float> logits_E, Random& random, moe::Routing& routing) {
  const size_t first = routing.experts_N.size();
  for (int k = 0; k < rule.experts_per_token; ++k) {
    const auto p_E = close_ones(rule.sparse_mixer_reach, logits_E, std::span(routing.experts_N).subspan(first));
    const size_t best = static_cast<size_t>(std::ranges::max_element(p_E) - p_E.begin());
    const size_t drawn = draw(p_E, random.uniform());
    const bool whole = random.uniform() < kChanceOfWhole || drawn == best;
    routing.experts_N.push_back(static_cast<int32_t>(drawn));
    routing.weights_N.push_back(rule.scale * p_E[drawn] * (whole ? 1 : 1.0f / 3));
  }
  routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
}

void draw_backward(const spec::RouterRule& rule, std::span<const float> logits_E, std::span<const int32_t> drawn,
                   std::span<const float> dmix, std::span<float> dlogits_E) {
  for (size_t k = 0; k < drawn.size(); ++k) {
    const auto p_E = close_ones(rule.sparse_mixer_reach, logits_E, drawn.first(k));
    // As if the weight were the whole probability, whichever it was
    const size_t e = static_cast<size_t>(drawn[k]);
    const float along = rule.scale * dmix[k] * p_E[e];
    for (size_t i = 0; i < p_E.size(); ++i) dlogits_E[i] -= along * p_E[i];
    dlogits_E[e] += along;
  }
}

}  // namespace moiety::train
