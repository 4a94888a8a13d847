// Ternary matrices: every element -1, 0 or 1 times one scale (Ma et al. 2024, "BitNet b1.58"; of experts: Wang et al. 2025, "MoTE").
#pragma once

#include <span>

namespace moiety::format {

// out = scale * w / scale rounded to -1, 0 or 1, where the scale is the mean of |w|, rounded to bf16, so that bf16 holds every
// element of `out` as it is. All zeros if the scale is 0.
void ternarise(std::span<const float> w, std::span<float> out);

}  // namespace moiety::format
