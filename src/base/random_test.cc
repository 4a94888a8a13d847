#include "base/random.h"

#include <gtest/gtest.h>

namespace moiety {
namespace {

TEST(Random, IsAFunctionOfSeedStreamAndCounter) {
  EXPECT_EQ(Random(1, 2).next(), Random(1, 2).next());
  EXPECT_NE(Random(1, 2).next(), Random(1, 3).next());
  EXPECT_NE(Random(1, 2).next(), Random(2, 2).next());
}

TEST(Random, ResumingByCounterContinuesTheSequence) {
  Random whole(7, 3);
  for (int i = 0; i < 5; ++i) whole.next();
  Random resumed(7, 3, whole.counter());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(whole.next(), resumed.next());
}

TEST(Random, MeansAndSpreadsAreThoseOfTheDistributions) {
  Random random(5);
  double sum = 0, sum_normal = 0, square = 0;
  constexpr int kDraws = 200000;
  int low = 0;
  for (int i = 0; i < kDraws; ++i) {
    sum += random.uniform();
    const double x = random.normal();
    sum_normal += x;
    square += x * x;
    low += random.below(10) < 3;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(sum_normal / kDraws, 0, 0.01);
  EXPECT_NEAR(square / kDraws, 1, 0.02);
  EXPECT_NEAR(double(low) / kDraws, 0.3, 0.005);
}

}  // namespace
}  // namespace moiety
