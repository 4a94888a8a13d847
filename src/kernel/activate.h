// The experts' activation functions, as plain loops that compilers turn into any machine's vectors: included by one file an
// instruction set, with the same result in all.
#pragma once

#include <cstddef>

#include "base/exponential.h"
#include "spec/model_spec.h"

namespace moiety::kernel {
namespace {

// gate = activation(gate, up)
inline void activate(spec::Activation activation, float* gate, const float* up, size_t n) noexcept {
  if (activation == spec::Activation::SwiGlu) {
    for (size_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + exp_of(-gate[i])) * up[i];
    return;
  }
  for (size_t i = 0; i < n; ++i) {  // gpt-oss: clamped, silu with a slope of 1.702, up + 1
    const float g = gate[i] > 7.0f ? 7.0f : gate[i];
    const float low = up[i] < -7.0f ? -7.0f : up[i], u = low > 7.0f ? 7.0f : low;
    gate[i] = g / (1 + exp_of(-1.702f * g)) * (u + 1);
  }
}

}  // namespace
}  // namespace moiety::kernel
