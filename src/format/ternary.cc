#include "format/ternary.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/bytes.h"

namespace moiety::format {

void ternarise(std::span<const float> w, std::span<float> out) {
  assert(w.size() == out.size());
  double sum = 0;
  for (const float x : w) sum += std::abs(static_cast<double>(x));
  const float scale = w.empty() ? 0 : bf16_to_float(float_to_bf16(static_cast<float>(sum / static_cast<double>(w.size()))));
  for (size_t i = 0; i < w.size(); ++i) {
    // Halves go to the even neighbour, 0.
    out[i] = scale > 0 ? scale * std::clamp(std::nearbyint(w[i] / scale), -1.0f, 1.0f) : 0;
  }
}

}  // namespace moiety::format
