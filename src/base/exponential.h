// exp in steps that compilers make vectors of, with the same bits on every machine. In an unnamed namespace: files compiled for
// different instruction sets each have their own. (Not for code whose sums may be reordered, as train/loops.cc's: it rounds by adding.)
#pragma once

#include <bit>
#include <cstdint>

namespace moiety {
namespace {

// exp(x) to about 2 units in the last place: 2^n * exp(r) with |r| <= ln(2) / 2 and the polynomial of Cephes' expf (S. L.
// Moshier). Beyond what a float holds, the largest power of two or nearly zero.
inline float exp_of(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: added, the sum's lower bits are the integer nearest to what was there
  const float shifted = x * 1.44269504088896341f + kMagic, n = shifted - kMagic;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127) << 23);
  return (p * (r * r) + r + 1) * power;
}

}  // namespace
}  // namespace moiety
