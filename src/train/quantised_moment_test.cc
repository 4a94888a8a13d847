#include "train/quantised_moment.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <vector>

#include "base/random.h"

namespace moiety::train {
namespace {

constexpr MomentSign kSigns[] = {MomentSign::Either, MomentSign::Positive};

TEST(QuantisedMoment, LevelsAreThoseOfTheDynamicTree) {
  const auto positive = quantised_levels(MomentSign::Positive);
  ASSERT_EQ(positive.size(), 256u);
  EXPECT_EQ(positive[0], 0.0f);
  EXPECT_FLOAT_EQ(positive[1], 0.325e-6f);    // the lowest decade has two levels:
  EXPECT_FLOAT_EQ(positive[2], 0.775e-6f);    // the middles of the halves of [0.1, 1]
  EXPECT_FLOAT_EQ(positive[254], 0.1f + 0.9f * 127.5f / 128);  // the highest has 128
  EXPECT_EQ(positive[255], 1.0f);
  const auto either = quantised_levels(MomentSign::Either);
  ASSERT_EQ(either.size(), 128u);
  EXPECT_FLOAT_EQ(either[126], 0.1f + 0.9f * 63.5f / 64);
  for (const MomentSign sign : kSigns) EXPECT_TRUE(std::ranges::is_sorted(quantised_levels(sign)));
}

// Numbers over many orders of magnitude, with zeros among them.
std::vector<float> numbers(MomentSign sign, size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(size);
  for (float& value : x) {
    value = static_cast<float>(std::exp(4 * random.normal() - 10));
    if (sign == MomentSign::Either && random.below(2) == 0) value = -value;
    if (random.below(10) == 0) value = 0;
  }
  return x;
}

TEST(QuantisedMoment, EveryNumberGoesToTheNearestLevel) {
  for (const MomentSign sign : kSigns) {
    const std::vector<float> x = numbers(sign, kQuantisedBlock, 5);
    std::vector<uint8_t> codes(x.size());
    const float scale = quantise_block(sign, x, codes);
    std::vector<float> back(x.size());
    dequantise_block(sign, codes, scale, back);
    for (size_t i = 0; i < x.size(); ++i) {
      double nearest = INFINITY;
      for (const float level : quantised_levels(sign)) {
        for (const double signed_level : {double{level}, -double{level}}) {
          nearest = std::min(nearest, std::abs(signed_level * scale - x[i]));
        }
      }
      EXPECT_LE(std::abs(static_cast<double>(back[i]) - x[i]), nearest + 1e-6 * std::abs(x[i])) << x[i];
    }
  }
}

TEST(QuantisedMoment, ALevelEveryWhereIsFound) {
  // The values on both sides of each border, where a table of cells could go wrong.
  for (const MomentSign sign : kSigns) {
    const auto levels = quantised_levels(sign);
    for (size_t i = 0; i + 1 < levels.size(); ++i) {
      const float border = (levels[i] + levels[i + 1]) / 2;
      const std::vector<float> x{1.0f, std::nextafter(border, 0.0f), border, std::nextafter(border, 1.0f), levels[i]};
      std::vector<uint8_t> codes(x.size());
      EXPECT_EQ(quantise_block(sign, x, codes), 1.0f);
      EXPECT_EQ(codes, (std::vector<uint8_t>{static_cast<uint8_t>(levels.size() - 1), static_cast<uint8_t>(i), static_cast<uint8_t>(i),
                                             static_cast<uint8_t>(i + 1), static_cast<uint8_t>(i)}));
    }
  }
}

TEST(QuantisedMoment, QuantisingAgainChangesNothing) {
  const bool holds = rc::check([](uint64_t seed) {
    for (const MomentSign sign : kSigns) {
      const size_t size = 1 + seed % kQuantisedBlock;
      std::vector<float> x = numbers(sign, size, seed);
      const float shift = std::ldexp(1.0f, static_cast<int>(seed % 120) - 90);
      for (float& value : x) value *= shift;
      std::vector<uint8_t> codes(size), again(size);
      const float scale = quantise_block(sign, x, codes);
      std::vector<float> back(size);
      dequantise_block(sign, codes, scale, back);
      RC_ASSERT(quantise_block(sign, back, again) == scale);
      RC_ASSERT(again == codes);
    }
  });
  EXPECT_TRUE(holds);
}

TEST(QuantisedMoment, ZerosAndWhatIsAlmostZeroHaveScaleZero) {
  std::vector<uint8_t> codes(3, 7);
  EXPECT_EQ(quantise_block(MomentSign::Positive, std::vector<float>{0, 1e-38f, 1e-44f}, codes), 0.0f);
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 0, 0}));
}

}  // namespace
}  // namespace moiety::train
