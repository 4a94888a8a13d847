#include "train/rule_schedule.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "base/random.h"

namespace moiety::train {
namespace {

TEST(ExpertsSchedule, FallsLayerByLayerTheLowestLast) {
  const ExpertsSchedule schedule{.from = 4, .to = 1, .steps = 80, .lower_later = 0.5};
  const auto of_layer = [&](int layer) {
    std::vector<int> experts;
    for (const int64_t step : {0, 9, 10, 20, 30, 39, 40, 50, 60, 70, 79, 80, 1000}) experts.push_back(experts_at(schedule, layer, 3, step));
    return experts;
  };
  // 40 steps each, ten a number: the highest from 0, the middle from 20, the lowest from 40.
  EXPECT_EQ(of_layer(2), (std::vector<int>{4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(of_layer(1), (std::vector<int>{4, 4, 4, 4, 3, 3, 2, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(of_layer(0), (std::vector<int>{4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 1, 1, 1}));
}

TEST(ExpertsSchedule, RisesInEqualParts) {
  const ExpertsSchedule schedule{.from = 1, .to = 4, .begin = 10, .steps = 8};
  std::vector<int> experts;
  for (int64_t step = 8; step < 20; ++step) experts.push_back(experts_at(schedule, 0, 1, step));
  EXPECT_EQ(experts, (std::vector<int>{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4}));
}

TEST(ExpertsSchedule, MovesOneWayAndIsThereAtTheEnd) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const auto upto = [&](uint64_t n) { return static_cast<int>(random.below(n)); };
    const int layers = 1 + upto(6);
    const ExpertsSchedule schedule{1 + upto(9), 1 + upto(9), upto(20), 1 + upto(50), random.uniform()};
    for (int layer = 0; layer < layers; ++layer) {
      int before = schedule.from;
      for (int64_t step = 0; step <= schedule.begin + schedule.steps; ++step) {
        const int now = experts_at(schedule, layer, layers, step);
        RC_ASSERT((step > schedule.begin || now == schedule.from));
        RC_ASSERT((schedule.to > schedule.from ? now >= before && now <= schedule.to : now <= before && now >= schedule.to));
        // A higher layer is never behind.
        const int below = experts_at(schedule, std::max(0, layer - 1), layers, step);
        RC_ASSERT(std::abs(now - schedule.to) <= std::abs(below - schedule.to));
        before = now;
      }
      RC_ASSERT(before == schedule.to);
    }
  });
}

TEST(TemperatureSchedule, FallsByTheSameRatioEveryStep) {
  const TemperatureSchedule schedule{.from = 8, .to = 0.5, .begin = 3, .steps = 4};
  for (int64_t step = 0; step <= 3; ++step) EXPECT_EQ(temperature_at(schedule, step), 8);
  EXPECT_NEAR(temperature_at(schedule, 4), 4, 1e-12);
  EXPECT_NEAR(temperature_at(schedule, 6), 1, 1e-12);
  EXPECT_EQ(temperature_at(schedule, 7), 0.5);
  EXPECT_EQ(temperature_at(schedule, 700), 0.5);
}

spec::ModelSpec five_of_eight() {
  spec::ModelSpec spec{.num_layers = 3};
  spec.moe.router = {.num_experts = 8, .experts_per_token = 5, .temperature = 0.5f};
  spec.feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
  return spec;
}

TEST(RulesAt, WithoutAScheduleTheRulesStay) {
  const auto rules_L = rules_at({}, five_of_eight(), 5, 10);
  ASSERT_EQ(rules_L.size(), 3u);
  EXPECT_EQ(rules_L[1].experts_per_token, 5);
  EXPECT_EQ(rules_L[2].temperature, 0.5f);
}

TEST(RulesAt, AScheduleWithoutStepsLastsFromTheSpawnToTheEnd) {
  TrainConfig::Anneal anneal;
  anneal.experts_from = 1;
  anneal.temperature_from = 2;
  anneal.spawn_step = 10;
  const spec::ModelSpec spec = five_of_eight();
  EXPECT_EQ(rules_at(anneal, spec, 10, 60)[1].experts_per_token, 1);
  EXPECT_EQ(rules_at(anneal, spec, 35, 60)[2].experts_per_token, 3);
  EXPECT_EQ(rules_at(anneal, spec, 59, 60)[2].experts_per_token, 5);
  EXPECT_NEAR(rules_at(anneal, spec, 35, 60)[2].temperature, 1, 1e-6);
  EXPECT_EQ(rules_at(anneal, spec, 60, 60)[2].temperature, 0.5f);
}

// Layers count among the MoE layers; a layer with few experts begins with all it has.
TEST(RulesAt, LowerMoeLayersComeLater) {
  TrainConfig::Anneal anneal;
  anneal.experts_from = 7;
  anneal.experts_steps = 60;
  anneal.lower_later = 0.5;
  spec::ModelSpec spec = five_of_eight();
  spec.moe.experts_L = {0, 6, 8};
  EXPECT_EQ(rules_at(anneal, spec, 0, 100)[1].experts_per_token, 6);
  EXPECT_EQ(rules_at(anneal, spec, 0, 100)[2].experts_per_token, 7);
  EXPECT_EQ(rules_at(anneal, spec, 30, 100)[1].experts_per_token, 6);
  EXPECT_EQ(rules_at(anneal, spec, 30, 100)[2].experts_per_token, 5);
  EXPECT_EQ(rules_at(anneal, spec, 60, 100)[1].experts_per_token, 5);
}

}  // namespace
}  // namespace moiety::train
