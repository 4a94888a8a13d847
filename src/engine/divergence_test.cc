#include "engine/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moiety::engine {
namespace {

std::vector<float> logs(std::vector<double> probabilities) {
  std::vector<float> out;
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

TEST(Divergence, LogitsBecomeLogProbabilities) {
  std::vector<float> x = {1000 + std::log(1.0f), 1000 + std::log(3.0f)};
  to_log_probabilities(x);
  EXPECT_NEAR(x[0], std::log(0.25), 1e-4);
  EXPECT_NEAR(x[1], std::log(0.75), 1e-4);
}

// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): 1/2 log 2 + 0 + 1/4 log 1/2 = 1/4 log 2.
TEST(Divergence, KlIsTheSumOfPTimesLogPByQ) {
  const TokenDivergence one = compare(logs({0.5, 0.25, 0.25}), logs({0.25, 0.25, 0.5}), 2);
  EXPECT_NEAR(one.kl, std::log(2.0) / 4, 1e-6);
  EXPECT_FALSE(one.same_top);
  EXPECT_NEAR(one.nats, std::log(2.0), 1e-6);
  EXPECT_NEAR(one.reference_nats, std::log(4.0), 1e-6);
}

TEST(Divergence, OfItselfItIsZero) {
  const auto p = logs({0.5, 0.3, 0.2});
  EXPECT_EQ(compare(p, p, 0).kl, 0);
  EXPECT_TRUE(compare(p, p, 0).same_top);
}

// It matters which is the reference.
TEST(Divergence, KlIsNotSymmetric) {
  const auto p = logs({0.9, 0.1}), q = logs({0.5, 0.5});
  EXPECT_NEAR(compare(p, q, 0).kl, 0.9 * std::log(1.8) + 0.1 * std::log(0.2), 1e-6);
  EXPECT_NEAR(compare(q, p, 0).kl, 0.5 * std::log(1 / 1.8) + 0.5 * std::log(5), 1e-6);
}

TEST(Divergence, ATextHasMeanQuantilesAndAgreement) {
  Divergence text;
  for (int i = 10; i >= 1; --i) text.add({.kl = i / 10.0, .same_top = i <= 7, .nats = 2, .reference_nats = 1});
  EXPECT_NEAR(text.mean(), 0.55, 1e-12);
  EXPECT_EQ(text.quantile(0.5), 0.5);
  EXPECT_EQ(text.quantile(0.9), 0.9);
  EXPECT_EQ(text.quantile(0.99), 1.0);
  EXPECT_EQ(text.quantile(1), 1.0);
  EXPECT_NEAR(text.top_agreement(), 0.7, 1e-12);
  EXPECT_NEAR(text.perplexity(), std::exp(2), 1e-9);
  EXPECT_NEAR(text.reference_perplexity(), std::exp(1), 1e-9);
  // The squares of deviations sum to 0.825; by 9 and by 10.
  EXPECT_NEAR(text.standard_error(), std::sqrt(0.825 / 90), 1e-12);
}

TEST(Divergence, TextsAddUp) {
  Divergence a, b;
  a.add({.kl = 1, .same_top = true, .nats = 1, .reference_nats = 1});
  b.add({.kl = 3, .same_top = false, .nats = 3, .reference_nats = 1});
  a.add(b);
  EXPECT_EQ(a.mean(), 2);
  EXPECT_EQ(a.top_agreement(), 0.5);
}

TEST(Divergence, OfNothingEverythingIsZero) {
  const Divergence none;
  EXPECT_EQ(none.mean(), 0);
  EXPECT_EQ(none.quantile(0.5), 0);
  EXPECT_EQ(none.perplexity(), 0);
}

}  // namespace
}  // namespace moiety::engine
