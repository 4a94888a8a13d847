// Rounding activations for the packed kernels: plain loops that compilers turn into any machine's vectors, with the same result
// in all of them. Included by one file an instruction set; in an unnamed namespace like tile.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "kernel/activations.h"

namespace moiety::kernel {
namespace {

// The largest magnitude; NaN and infinity count as infinite.
inline float largest_magnitude(const float* x, size_t n) {
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
    largest = largest < magnitude ? magnitude : largest;
  }
  return std::bit_cast<float>(largest);
}

inline uint16_t round_to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// q = round(x / scale), to even; returns the scale, NaN where x holds something infinite.
inline float round_to_bytes(const float* x, size_t n, std::byte* q) {
  const float largest = largest_magnitude(x, n);
  const bool finite = std::isfinite(largest);
  const float inverse = finite && largest > 1e-30f ? 127.0f / largest : 0.0f;
  // Adding and taking away 1.5 * 2^23 rounds to an integer that is in the lower bits.
  constexpr float kMagic = 12582912.0f;
  for (size_t i = 0; i < n; ++i) {
    const float rounded = (finite ? x[i] : 0.0f) * inverse + kMagic;
    q[i] = static_cast<std::byte>(std::bit_cast<uint32_t>(rounded) & 0xff);
  }
  return finite ? largest / 127.0f : std::bit_cast<float>(0x7fc00000u);
}

inline int sum_of_bytes(const std::byte* q, size_t n) {
  int sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<int8_t>(q[i]);
  return sum;
}

// Columns [first, first + count) of a row of `cols`; whole blocks, or to the row's end.
inline void round_activations(ActivationFormat format, const float* x, size_t first, size_t count, size_t cols,
                              std::byte* row) noexcept {
  const ActivationRow at{cols};
  const auto store = [&](size_t where, auto value) { std::memcpy(row + where, &value, sizeof value); };
  switch (format.form) {
    case ActivationForm::F32:
      std::memcpy(row + 4 * first, x, 4 * count);
      return;
    case ActivationForm::Bf16: {
      for (size_t i = 0; i < count; ++i) store(2 * (first + i), round_to_bf16(x[i]));
      const size_t padded = (cols + 31) / 32 * 32;
      if (first + count == cols) std::memset(row + 2 * cols, 0, 2 * (padded - cols));
      return;
    }
    case ActivationForm::Int8By32:
      for (size_t b = first / 32; b < (first + count) / 32; ++b) {
        const float scale = round_to_bytes(x + 32 * b - first, 32, row + 32 * b);
        const int sum = sum_of_bytes(row + 32 * b, 32);
        store(at.scale() + 4 * b, scale);
        store(at.correction() + 4 * b, -format.offset * sum);
        store(at.scaled_sum() + 4 * b, scale * static_cast<float>(sum));
      }
      return;
    case ActivationForm::Int8By256:
      for (size_t b = first / 256; b < (first + count) / 256; ++b) {
        store(at.scale() + 4 * b, round_to_bytes(x + 256 * b - first, 256, row + 256 * b));
        for (size_t i = 0; i < 8; ++i) {
          const std::byte* q = row + 256 * b + 32 * i;
          const int low = sum_of_bytes(q, 16), high = sum_of_bytes(q + 16, 16);
          store(at.sums_of_16() + 32 * b + 4 * i, static_cast<int16_t>(low));
          store(at.sums_of_16() + 32 * b + 4 * i + 2, static_cast<int16_t>(high));
          store(at.sums_of_32() + 16 * b + 2 * i, static_cast<int16_t>(low + high));
        }
      }
      return;
  }
}

}  // namespace
}  // namespace moiety::kernel
