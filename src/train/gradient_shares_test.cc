#include "train/gradient_shares.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <mutex>

#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {

using spec::Role;

class GradientShares : public testing::Test {
 protected:
  static spec::ModelSpec spec_of() {
    const TrainConfig config = parse_config("", "c", {"model.width=64", "model.layers=2", "model.experts=4", "model.expert_hidden=700"});
    return model_spec(config, 300, 0);
  }
  // Of one expert of a stack.
  static std::span<float> gradient_of(Weights& weights, Role role, int layer, size_t expert) {
    for (const Weights::Entry& entry : weights.entries()) {
      if (entry.weight.role != role || entry.weight.layer != layer) continue;
      const size_t size = entry.size / static_cast<size_t>(entry.shape[0]);
      return weights.gradients().subspan(entry.begin + expert * size, size);
    }
    return {};
  }
  static void fill_by_chance(Weights& weights, uint64_t seed) {
    Random random(seed);
    for (float& x : weights.gradients()) x = static_cast<float>(random.normal());
  }

  const spec::ModelSpec spec_ = spec_of();
};

TEST_F(GradientShares, AddUpToTheSquareOfTheNorm) {
  Weights weights(spec_);
  Optimizer optimizer({}, weights);
  fill_by_chance(weights, 1);
  const double norm = optimizer.measure();
  double sum = 0;
  for (const GradientShare& share : gradient_shares(weights, optimizer, nullptr)) {
    sum += share.square;
    if (share.entry->weight.role != Role::ExpertUp || share.entry->weight.layer != 1) continue;
    double expected = 0;
    for (const float x : gradient_of(weights, Role::ExpertUp, 1, static_cast<size_t>(share.expert))) expected += static_cast<double>(x) * x;
    EXPECT_NEAR(share.square, expected, 1e-3 * expected);
  }
  EXPECT_NEAR(sum, norm * norm, 1e-5 * sum);
}

TEST_F(GradientShares, NameTheFirstThatTheWayBackCameTo) {
  Weights weights(spec_);
  Optimizer optimizer({}, weights);
  fill_by_chance(weights, 1);
  gradient_of(weights, Role::ExpertUp, 1, 2)[5] = std::numeric_limits<float>::infinity();
  gradient_of(weights, Role::ExpertGate, 0, 3)[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(optimizer.measure()));
  const auto shares = gradient_shares(weights, optimizer, nullptr);
  const NoNumbers found = no_numbers(shares);
  ASSERT_NE(found.first, nullptr);
  EXPECT_EQ(found.count, 2u);
  EXPECT_EQ(found.first->entry->weight.role, Role::ExpertUp);
  EXPECT_EQ(found.first->entry->weight.layer, 1);
  EXPECT_EQ(found.first->expert, 2);
  EXPECT_NE(name_of(*found.first).find("of expert 2"), std::string::npos);
}

// What is always large has not grown.
TEST_F(GradientShares, ASpikeIsWhereTheShareHasGrown) {
  for (const char* state : {"f32", "int8"}) {
    Weights weights(spec_);
    Optimizer optimizer({.state = state}, weights);
    const auto fill = [&](uint64_t seed) {
      fill_by_chance(weights, seed);
      for (float& x : gradient_of(weights, Role::ExpertDown, 0, 0)) x *= 20;
    };
    for (int64_t step = 0; step < 5; ++step) {
      fill(static_cast<uint64_t>(step));
      optimizer.step(step, 0);
    }
    fill(9);
    for (float& x : gradient_of(weights, Role::ExpertGate, 1, 3)) x *= 15;
    optimizer.measure();
    const auto shares = gradient_shares(weights, optimizer, nullptr);
    const GrownShare most = most_grown(shares);
    EXPECT_EQ(most.of->entry->weight.role, Role::ExpertGate) << state;
    EXPECT_EQ(most.of->entry->weight.layer, 1);
    EXPECT_EQ(most.of->expert, 3);
    EXPECT_NEAR(most.share, 225.0 / (225 + 400), 0.1);
    EXPECT_LT(most.usually, 0.02);
    EXPECT_EQ(no_numbers(shares).first, nullptr);
  }
}

// Ranks that share the moments, and experts or not, find what one process finds with the sum of their gradients.
TEST_F(GradientShares, AreTheSameOnAnyNumberOfRanks) {
  const auto of_rank = [&](Weights& weights, int rank) {
    fill_by_chance(weights, static_cast<uint64_t>(rank));
    gradient_of(weights, Role::ExpertDown, 1, 1)[7] = std::numeric_limits<float>::infinity();
  };
  Weights alone(spec_);
  Optimizer one({}, alone);
  std::vector<float> sum(alone.gradients().size());
  for (int rank = 0; rank < 3; ++rank) {
    of_rank(alone, rank);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += alone.gradients()[i];
  }
  std::ranges::copy(sum, alone.gradients().begin());
  one.measure();
  const auto expected = gradient_shares(alone, one, nullptr);
  test::on_ranks(3, [&](comm::Group& group) {
    Weights weights(spec_);
    comm::Mesh mesh(group, {});
    Optimizer optimizer({}, weights, {}, &mesh);
    of_rank(weights, group.rank());
    optimizer.measure();
    const auto found = gradient_shares(weights, optimizer, &group);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].expert, expected[i].expert);
      if (std::isfinite(expected[i].square)) EXPECT_NEAR(found[i].square, expected[i].square, 1e-4 * expected[i].square);
      else EXPECT_FALSE(std::isfinite(found[i].square));
    }
    EXPECT_EQ(no_numbers(found).first->expert, 1);
  });

  test::on_ranks(2, [&](comm::Group& group) {
    Weights weights(spec_, {group.rank(), group.size()});
    comm::Mesh mesh(group, {.experts = 2});
    Optimizer optimizer({}, weights, {}, &mesh);
    if (group.rank() == 1) gradient_of(weights, Role::ExpertDown, 0, 1)[0] = std::numeric_limits<float>::quiet_NaN();
    optimizer.measure();
    const auto found = gradient_shares(weights, optimizer, &group);
    ASSERT_EQ(no_numbers(found).count, 1u);
    EXPECT_EQ(no_numbers(found).first->expert, 3);  // the second rank's second
    EXPECT_EQ(no_numbers(found).first->entry->weight.layer, 0);
  });
}

// What is passed over leaves no trace: the next steps are those of an optimizer that never saw it.
TEST_F(GradientShares, AStepThatIsPassedOverLeavesNoTrace) {
  for (const char* state : {"f32", "int8", "factored"}) {
    Weights sees(spec_), never(spec_);
    sees.initialise(spec_, 1);
    never.initialise(spec_, 1);
    Optimizer mine({.state = state}, sees), theirs({.state = state}, never);
    for (int64_t step = 0; step < 4; ++step) {
      if (step == 2) {
        fill_by_chance(sees, 77);
        sees.gradients()[3] = std::numeric_limits<float>::quiet_NaN();
        mine.measure();
        gradient_shares(sees, mine, nullptr);
        mine.pass_over();
        EXPECT_TRUE(std::ranges::equal(sees.values(), never.values()));
      }
      fill_by_chance(sees, static_cast<uint64_t>(step));
      fill_by_chance(never, static_cast<uint64_t>(step));
      EXPECT_EQ(mine.step(step, 1e-2), theirs.step(step, 1e-2));
    }
    EXPECT_TRUE(std::ranges::equal(sees.values(), never.values())) << state;
  }
}

}  // namespace
}  // namespace moiety::train
