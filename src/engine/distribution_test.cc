#include "engine/distribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"

namespace moiety::engine {
namespace {

std::vector<float> random_logits(uint64_t seed, size_t count, bool with_equals) {
  Random random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(with_equals ? std::floor(2 * random.normal()) : 3 * random.normal());
  return logits;
}

TEST(Distribution, TheLikeliestAreTheFirstOfASort) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const size_t count = 1 + Random(seed, 1).below(3000);
    std::vector<float> logits = random_logits(seed, count, seed % 2 == 0);
    if (seed % 3 == 0) std::ranges::sort(logits);  // each block likelier than all before
    if (seed % 5 == 0) logits[count / 2] = -std::numeric_limits<float>::infinity();
    std::vector<int32_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    for (const size_t wanted : {size_t{0}, size_t{1}, size_t{5}, size_t{300}, count, count + 7}) {
      const std::vector<int32_t> expected(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, count)));
      ASSERT_EQ(likeliest_of(logits, wanted), expected) << "seed " << seed << ", " << wanted << " of " << count;
    }
    EXPECT_EQ(likeliest_of(logits), order[0]);
    EXPECT_EQ(largest_of(logits), logits[order[0]]);
  }
}

TEST(Distribution, WeightsAreThoseOfASoftmax) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const std::vector<float> logits = random_logits(seed, 1 + Random(seed, 1).below(2000), false);
    const float sharpness = seed % 2 == 0 ? 1.0f : 1.7f, least = seed % 3 == 0 ? 0.01f : 0.0f;
    const Weights weights(logits, sharpness, least);
    const float largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (size_t v = 0; v < logits.size(); ++v) {
      const double exact = std::exp((double{logits[v]} - largest) * sharpness);
      if (std::abs(exact - least) > 1e-6) {
        EXPECT_NEAR(weights.of(v), exact < least ? 0 : exact, 1e-5 * exact);
      }
      sum += weights.of(v);
    }
    EXPECT_NEAR(weights.sum(), sum, 1e-5 * sum);

    // Nobody who is heavy enough is left out, and few others come
    const double bar = 0.3 * Random(seed, 3).uniform();
    const std::vector<int32_t> heavy = weights.at_least(bar);
    for (int32_t v = 0; v < static_cast<int32_t>(logits.size()); ++v) {
      const bool is_there = std::ranges::find(heavy, v) != heavy.end();
      if (weights.of(static_cast<size_t>(v)) >= bar) {
        EXPECT_TRUE(is_there) << v;
      }
      if (is_there) {
        EXPECT_GE(std::exp((double{logits[static_cast<size_t>(v)]} - largest) * sharpness), 0.99 * bar) << v;
      }
    }
    EXPECT_EQ(weights.at_least(0).size(), logits.size());

    // Each point finds the token whose weight it falls into
    Random random(seed, 2);
    for (int i = 0; i < 200; ++i) {
      const double point = random.uniform() * weights.sum();
      const int32_t token = weights.at(point);
      ASSERT_GT(weights.of(static_cast<size_t>(token)), 0);
      double before = 0;
      for (int32_t v = 0; v < token; ++v) before += weights.of(static_cast<size_t>(v));
      EXPECT_LE(before, point + 1e-4 * sum);
      EXPECT_GE(before + weights.of(static_cast<size_t>(token)), point - 1e-4 * sum);
    }
    EXPECT_GT(weights.of(static_cast<size_t>(weights.at(weights.sum()))), 0);
  }
}

TEST(Distribution, WhatMayNotComeHasNoWeight) {
  std::vector<float> logits(1000, -std::numeric_limits<float>::infinity());
  logits[700] = -3;
  const Weights weights(logits, 1);
  EXPECT_EQ(weights.sum(), 1);
  for (const double point : {0.0, 0.5, 0.999999, 1.0}) EXPECT_EQ(weights.at(point), 700);
}

}  // namespace
}  // namespace moiety::engine
