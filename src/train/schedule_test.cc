#include "train/schedule.h"

#include <gtest/gtest.h>

namespace moiety::train {
namespace {

TEST(Schedule, CosineRisesToThePeakAndFallsToItsEnd) {
  const TrainConfig::Schedule schedule{.kind = "cosine", .warmup = 10, .min_lr = 0.1};
  EXPECT_NEAR(learning_rate(schedule, 2.0, 0, 110), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 2.0, 9, 110), 2.0, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 2.0, 10, 110), 2.0, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 2.0, 60, 110), 1.1, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 2.0, 110, 110), 0.2, 1e-12);
}

TEST(Schedule, WsdStaysAtThePeakUntilItsDecay) {
  const TrainConfig::Schedule schedule{.kind = "wsd", .warmup = 10, .min_lr = 0, .decay = 0.2};
  EXPECT_NEAR(learning_rate(schedule, 1.0, 79, 100), 1.0, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 1.0, 90, 100), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 1.0, 100, 100), 0.0, 1e-12);
}

}  // namespace
}  // namespace moiety::train
