#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/route.h"

namespace moiety::moe {
namespace {

float activate(spec::LogitActivation activation, float x) {
  switch (activation) {
    case spec::LogitActivation::None: return x;
    case spec::LogitActivation::Tanh: return std::tanh(x);
    case spec::LogitActivation::Sigmoid: return 1.0f / (1.0f + std::exp(-x));
    case spec::LogitActivation::Silu: return x / (1.0f + std::exp(-x));
  }
  return x;
}

void softmax(std::span<float> x_C) {
  float top = -std::numeric_limits<float>::infinity();
  for (const float x : x_C) top = std::max(top, x);
  float sum = 0;
  for (float& x : x_C) sum += x = std::exp(x - top);
  for (float& x : x_C) x /= sum;
}

}  // namespace

void score(const spec::RouterRule& rule, std::span<float> logits_C) {
  if (rule.logit_activation != spec::LogitActivation::None) {
    for (float& x : logits_C) x = activate(rule.logit_activation, x);
  }
  if (rule.temperature != 1) {
    for (float& x : logits_C) x /= rule.temperature;
  }
  if (rule.score == spec::Score::Softmax) softmax(logits_C);
  if (rule.score == spec::Score::Sigmoid) {
    for (float& x : logits_C) x = 1.0f / (1.0f + std::exp(-x));
  }
}

}  // namespace moiety::moe
