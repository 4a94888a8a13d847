#include "train/bad_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"

namespace moiety::train {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

// A run as runs are: the loss falls from log 4096 towards 2.5, batches differ, and norms by factors.
StepFigures healthy(int64_t step, Random& random) {
  const auto normal = [&] { return random.normal(); };
  const double loss = 2.5 + 5.8 * std::exp(-static_cast<double>(step) / 150);
  return {loss + 0.08 * normal(), (0.3 + 3 * std::exp(-static_cast<double>(step) / 80)) * std::exp(0.25 * normal())};
}

StepJudge after_healthy(int64_t steps, const TrainConfig::BadSteps& config = {}) {
  StepJudge judge(config);
  Random random(1);
  for (int64_t step = 0; step < steps; ++step) judge.judge(healthy(step, random));
  return judge;
}

TEST(StepJudge, RaisesNoAlarmInAHealthyRun) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    StepJudge judge({});
    Random random(seed);
    for (int64_t step = 0; step < 2000; ++step) EXPECT_FALSE(judge.judge(healthy(step, random)).is_bad()) << seed << " " << step;
  }
}

// The norm grows with the learning rate of the warm-up, by as much as it can without being a spike.
TEST(StepJudge, AGradientThatGrowsSlowlyIsNoSpike) {
  StepJudge judge({});
  for (int step = 0; step < 300; ++step) EXPECT_FALSE(judge.judge({5, 0.1 * std::exp(step / 40.0)}).is_bad()) << step;
}

TEST(StepJudge, WhatIsNoNumberIsBadFromTheFirstStepOn) {
  StepJudge judge({});
  EXPECT_EQ(judge.judge({kNan, 1}).trouble, Trouble::LossNoNumber);
  EXPECT_EQ(judge.judge({5, kInfinity}).trouble, Trouble::NormNoNumber);
  EXPECT_EQ(judge.judge({5, kNan}).trouble, Trouble::NormNoNumber);
  EXPECT_EQ(judge.judge({5, 1, true}).trouble, Trouble::Damage);
  EXPECT_FALSE(judge.judge({5, 1}).is_bad());
  EXPECT_EQ(judge.bad_ones(), 4);
}

TEST(StepJudge, SpikesAreFarAboveTheMedianOfTheLastSteps) {
  StepJudge judge = after_healthy(1000);
  const Verdict loss = judge.judge({4.2, 0.3});
  EXPECT_EQ(loss.trouble, Trouble::LossSpike);
  EXPECT_NEAR(loss.usual, 2.5, 0.1);
  const Verdict norm = judge.judge({2.5, 30});
  EXPECT_EQ(norm.trouble, Trouble::NormSpike);
  EXPECT_NEAR(norm.usual, 0.3, 0.05);
  EXPECT_FALSE(judge.judge({1.2, 0.001}).is_bad());  // far below
}

// A mean and a deviation would take the first spike in and let the next pass.
TEST(StepJudge, ASpikeHidesNoOther) {
  StepJudge judge = after_healthy(1000);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(judge.judge({9, 0.3}).is_bad());
    EXPECT_TRUE(judge.judge({2.5, 1e6}).is_bad());
  }
}

TEST(StepJudge, FewStepsSayNothingOfWhatIsUsual) {
  StepJudge judge = after_healthy(StepJudge::kAtLeast - 1);
  EXPECT_FALSE(judge.judge({100, 1e6}).is_bad());
  StepJudge other = after_healthy(1000);
  other.forget_usual();
  EXPECT_FALSE(other.judge({100, 1e6}).is_bad());
}

TEST(StepJudge, ThresholdsOfZeroLookForNoSpikes) {
  StepJudge judge = after_healthy(100, {.loss = 0, .norm = 0});
  EXPECT_FALSE(judge.judge({1000, 1e9}).is_bad());
  EXPECT_TRUE(judge.judge({kNan, 1}).is_bad());
}

TEST(StepJudge, EnoughIsMoreThanSoManyOfTheLastSteps) {
  StepJudge judge({.window = 20, .most = 3});
  // Every seventh: never more than three of twenty
  for (int step = 0; step < 200; ++step) {
    judge.judge({step % 7 == 0 ? kNan : 5, 1});
    EXPECT_FALSE(judge.has_seen_enough()) << step;
  }
  for (int step = 0; step < 20; ++step) judge.judge({5, 1});
  EXPECT_EQ(judge.bad_ones(), 0);
  for (int step = 0; step < 4; ++step) {
    EXPECT_FALSE(judge.has_seen_enough());
    judge.judge({kNan, 1});
  }
  EXPECT_TRUE(judge.has_seen_enough());
}

TEST(StepJudge, GoesOnFromItsStateWithTheSameVerdicts) {
  StepJudge judge = after_healthy(150);
  judge.judge({kNan, 1});
  StepJudge other({});
  other.restore(parse_json(judge.state().dump(), "state"), "state");
  Random random(7);
  for (int i = 0; i < 300; ++i) {
    StepFigures figures = healthy(200 + i, random);
    if (i % 10 == 0) figures.loss *= 1.3;
    const Verdict one = judge.judge(figures), two = other.judge(figures);
    EXPECT_EQ(one.trouble, two.trouble);
    EXPECT_EQ(one.usual, two.usual);
    EXPECT_EQ(judge.bad_ones(), other.bad_ones());
  }
  EXPECT_THROW(other.restore(parse_json("{\"losses\":[1],\"norms\":[],\"bad\":[]}", "state"), "state"), Error);
  EXPECT_THROW(other.restore(parse_json("{\"losses\":[\"x\"],\"norms\":[1],\"bad\":[]}", "state"), "state"), Error);
}

}  // namespace
}  // namespace moiety::train
