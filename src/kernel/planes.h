// A packed matrix in Q8_0 cut into two planes: the upper four bits of each byte with the scales, and the lower four bits. The upper
// plane alone is a matrix in four bits (ElementType::Q8_0_UPPER), both together are the whole one again, to the bit: precision
// that is raised by what is missing alone, as D2MoE's nested experts are (arXiv 2504.15299).
//
// In both planes of 32 columns four vectors of nibbles lie as kernel/packed.h has them.
#pragma once

#include "kernel/packed.h"

namespace moiety::kernel {

// Where they are; of the bytes of spec::packed_layout for Q8_0_UPPER and Q8_0_LOWER.
struct Planes {
  const std::byte *upper = nullptr, *lower = nullptr;
  bool empty() const { return upper == nullptr; }
};

// Cuts one strip of `whole`, in Q8_0, to where the planes' same strips begin.
void split_strip(const PackedView& whole, size_t strip, std::byte* upper, std::byte* lower);

// The other way round: `out` has whole.strip_bytes(); of `whole` the data are not looked at.
void merge_strip(const Planes& planes, size_t strip, const PackedView& whole, std::byte* out);

}  // namespace moiety::kernel
