#include "base/bytes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moiety {
namespace {

// What a half means, from its definition: sign, 5 bits of exponent, 10 of mantissa.
double meaning_of_half(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double sign = half >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(Bytes, EveryHalfMeansWhatItsBitsSayAndComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    const double meaning = meaning_of_half(half);
    if (std::isnan(meaning)) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
      continue;
    }
    ASSERT_EQ(value, meaning) << bits;
    ASSERT_EQ(float_to_half(value), half) << bits;
  }
}

TEST(Bytes, FloatsRoundToTheNearestHalfTiesToEven) {
  for (uint32_t bits = 0; bits < 31743; ++bits) {
    const float low = half_to_float(static_cast<uint16_t>(bits)), high = half_to_float(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(float_to_half(middle), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(float_to_half(1e6f), 0x7c00);
  EXPECT_EQ(float_to_half(-1e6f), 0xfc00);
}

TEST(Bytes, Bfloat16RoundsTiesToEvenAndKeepsNaN) {
  EXPECT_EQ(float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Bytes, ReadingPastTheEndIsAnErrorThatNamesTheFile) {
  const std::byte bytes[6] = {};
  ByteReader reader(bytes, "x.gguf");
  reader.read<uint32_t>();
  try {
    reader.read<uint32_t>();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "x.gguf: truncated: 4 bytes wanted at offset 4, 2 left");
  }
  EXPECT_EQ(reader.remaining(), 2u);
}

}  // namespace
}  // namespace moiety
