#include "spec/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moiety::spec {
namespace {

constexpr float kTurn = 2 * std::numbers::pi_v<float>;

// All in the float arithmetic of the reference implementations.
void scale_llama3(const RopeScaling& scaling, std::vector<float>& frequencies) {
  const float original = static_cast<float>(scaling.original_positions);
  for (float& frequency : frequencies) {
    const float wavelength = kTurn / frequency;
    if (wavelength > original / scaling.low_frequency) {
      frequency /= scaling.factor;
    } else if (wavelength >= original / scaling.high_frequency) {
      const float keep = (original / wavelength - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency);
      frequency = (1 - keep) * frequency / scaling.factor + keep * frequency;
    }
  }
}

// The index, between frequencies, whose wave makes `turns` turns within the original positions.
double index_of_turns(const RopeSpec& rope, int dim, double turns) {
  const double positions = rope.scaling.original_positions;
  return dim * std::log(positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(double{rope.theta}));
}

void scale_yarn(const RopeSpec& rope, int dim, std::vector<float>& frequencies) {
  const RopeScaling& scaling = rope.scaling;
  double low = index_of_turns(rope, dim, scaling.beta_fast), high = index_of_turns(rope, dim, scaling.beta_slow);
  if (scaling.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float slow = std::clamp(static_cast<float>((static_cast<double>(i) - low) / (high - low)), 0.0f, 1.0f);
    frequencies[i] = frequencies[i] / scaling.factor * slow + frequencies[i] * (1 - slow);
  }
}

void divide_by(const std::vector<float>& factors, std::vector<float>& frequencies) {
  for (size_t i = 0; i < std::min(factors.size(), frequencies.size()); ++i) frequencies[i] /= factors[i];
}

}  // namespace

float yarn_amplitude(float factor, float weight) { return factor <= 1 ? 1 : 0.1f * weight * std::log(factor) + 1; }

std::vector<float> frequencies(const RopeSpec& rope, int dim, bool long_context) {
  std::vector<float> frequencies(static_cast<size_t>(dim) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = 1.0f / std::pow(rope.theta, static_cast<float>(2 * i) / static_cast<float>(dim));
  }
  switch (rope.scaling.kind) {
    case RopeScalingKind::None:
      break;
    case RopeScalingKind::Linear:
      for (float& frequency : frequencies) frequency /= rope.scaling.factor;
      break;
    case RopeScalingKind::Llama3:
      scale_llama3(rope.scaling, frequencies);
      break;
    case RopeScalingKind::Yarn:
      scale_yarn(rope, dim, frequencies);
      break;
    case RopeScalingKind::Factors:
      divide_by(long_context ? rope.scaling.long_factors : rope.scaling.short_factors, frequencies);
      break;
  }
  return frequencies;
}

}  // namespace moiety::spec
