// The small steps between the matrix products, plainly.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "spec/model_spec.h"

namespace moiety::model {

// In lanes, which compilers turn into the vectors of any machine.
inline float sum_of_squares(std::span<const float> x) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {}, sum = 0;
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  }
  for (; i < x.size(); ++i) lanes[i % kLanes] += x[i] * x[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

// x / sqrt(mean(x^2) + eps) * weight; `out` may be `x`.
inline void rms_norm(std::span<const float> x, std::span<const float> weight, float eps, std::span<float> out) {
  const float scale = 1.0f / std::sqrt(sum_of_squares(x) / static_cast<float>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * weight[i];
}

// (x - mean) / sqrt(variance + eps) * weight + bias
inline void layer_norm(std::span<const float> x, std::span<const float> weight, std::span<const float> bias, float eps,
                       std::span<float> out) {
  float sum = 0, squares = 0;
  for (const float v : x) sum += v;
  const float mean = sum / static_cast<float>(x.size());
  for (const float v : x) squares += (v - mean) * (v - mean);
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

// x += y, where there is a y.
inline void add(std::span<const float> y, std::span<float> x) {
  for (size_t i = 0; i < y.size(); ++i) x[i] += y[i];
}

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace moiety::model
