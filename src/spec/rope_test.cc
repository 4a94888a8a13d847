#include "spec/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace moiety::spec {
namespace {

TEST(Rope, PlainFrequenciesFallGeometrically) {
  const auto f = frequencies({.theta = 10000}, 8, false);
  ASSERT_EQ(f.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(f[i], std::pow(10.0, -static_cast<double>(i)), 1e-7);
}

TEST(Rope, Llama3KeepsFastDividesSlowAndBlendsBetween) {
  RopeSpec rope{.theta = 500000};
  const auto plain = frequencies(rope, 64, false);
  rope.scaling = {.kind = RopeScalingKind::Llama3, .factor = 8, .original_positions = 8192};
  const auto scaled = frequencies(rope, 64, false);
  int kept = 0, divided = 0, between = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double turns = 8192 * plain[i] / (2 * std::numbers::pi), ratio = scaled[i] / plain[i];
    if (turns > 4) {
      EXPECT_FLOAT_EQ(ratio, 1);
      ++kept;
    }
    if (turns < 1) {
      EXPECT_FLOAT_EQ(ratio, 0.125);
      ++divided;
    }
    if (turns > 1 && turns < 4) {
      EXPECT_NEAR(ratio, 0.125 + 0.875 * (turns - 1) / 3, 1e-5);
      ++between;
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(divided, 0);
  EXPECT_GT(between, 0);
}

TEST(Rope, YarnIsMonotoneBetweenKeepingAndDividing) {
  RopeSpec rope{.theta = 150000};
  const auto plain = frequencies(rope, 64, false);
  for (const bool truncate : {false, true}) {
    rope.scaling = {.kind = RopeScalingKind::Yarn, .factor = 32, .original_positions = 4096, .truncate = truncate};
    const auto scaled = frequencies(rope, 64, false);
    double before = 1;
    for (size_t i = 0; i < plain.size(); ++i) {
      const double turns = 4096 * plain[i] / (2 * std::numbers::pi), ratio = scaled[i] / plain[i];
      EXPECT_LE(ratio, before + 1e-6);
      before = ratio;
      if (turns > 33) {
      EXPECT_NEAR(ratio, 1, truncate ? 0.03 : 1e-6) << turns;
    }
      if (turns < 0.8) {
      EXPECT_NEAR(ratio, 1 / 32.0, truncate ? 0.03 : 1e-6) << turns;
    }
    }
  }
  EXPECT_FLOAT_EQ(yarn_amplitude(32), static_cast<float>(0.1 * std::log(32.0) + 1));
  EXPECT_FLOAT_EQ(yarn_amplitude(0.5f), 1);
}

TEST(Rope, FactorsDivideByTheListForTheContext) {
  RopeSpec rope{.theta = 100};
  rope.scaling = {.kind = RopeScalingKind::Factors, .short_factors = {1, 2}, .long_factors = {4, 8}};
  EXPECT_NEAR(frequencies(rope, 4, false)[1], 0.1 / 2, 1e-7);
  EXPECT_NEAR(frequencies(rope, 4, true)[1], 0.1 / 8, 1e-7);
}

}  // namespace
}  // namespace moiety::spec
