// Numbers as they lie on disk: half and bfloat16 to float and back, and little-endian reads with bounds.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace moiety {

static_assert(std::endian::native == std::endian::little, "moiety reads little-endian files in place");

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Rounds to nearest, ties to even; a NaN stays a NaN.
inline uint16_t float_to_bf16(float value) {
  // Without a branch, so that compilers can do several at once.
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t near = bits + 0x7fffu + ((bits >> 16) & 1u), nan = bits | 0x400000u;
  return static_cast<uint16_t>(((bits & 0x7fffffffu) > 0x7f800000u ? nan : near) >> 16);
}

inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Rounds to nearest, ties to even; too large becomes infinity.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal in half: let the float adder round at 2^-24
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

// An eight-bit float with 4 bits of exponent and 3 of mantissa (OCP E4M3): no infinity, 0x7f and 0xff are NaN.
inline float e4m3_to_float(uint8_t bits) {
  if ((bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(uint32_t{0x7fc00000u});
  // Its exponent and mantissa are those of a half that is 2^8 smaller.
  return half_to_float(static_cast<uint16_t>((bits & 0x80u) << 8 | (bits & 0x7fu) << 7)) * 256.0f;
}

// A power of two in a byte (OCP E8M0): 2^(bits - 127). 255, which stands for NaN, becomes infinity.
inline float e8m0_to_float(uint8_t bits) {
  return std::bit_cast<float>(bits == 0 ? uint32_t{0x00400000u} : uint32_t{bits} << 23);
}

// A four-bit float (OCP E2M1); bit 3 is the sign.
inline float e2m1_to_float(int bits) {
  constexpr float kMagnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return bits & 8 ? -kMagnitudes[bits & 7] : kMagnitudes[bits & 7];
}

// A level of ggml's IQ4_NL and IQ4_XS: sixteen integers that lie closer to one another near zero.
constexpr int iq4_level(int nibble) {
  constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return kLevels[nibble & 15];
}

// Reads one value after another from bytes that may lie; every read is checked against the end.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  T read() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::span<const std::byte> take(size_t count) {
    require(count <= remaining(), "{}: truncated: {} bytes wanted at offset {}, {} left", name_, count,
            position_, remaining());
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  std::string_view take_text(size_t count) {
    const auto part = take(count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
  size_t position_ = 0;
};

}  // namespace moiety
