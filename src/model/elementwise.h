// The small steps between the matrix products, plainly.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace moiety::model {

// x / sqrt(mean(x^2) + eps) * weight; `out` may be `x`.
inline void rms_norm(std::span<const float> x, std::span<const float> weight, float eps, std::span<float> out) {
  float sum = 0;
  for (const float v : x) sum += v * v;
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * weight[i];
}

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
inline float silu(float x) { return x * sigmoid(x); }

}  // namespace moiety::model
