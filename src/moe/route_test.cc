#include "moe/route.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"

namespace moiety::moe {
namespace {

using spec::RouterRule;
using spec::Score;

const RouterRule kEightTwo{.num_experts = 8, .experts_per_token = 2};

TEST(Route, EqualScoresGoToTheLowerExpertId) {
  const std::vector<float> logits_TE(8, 0.5f);
  const RouterRule rule{.num_experts = 8, .experts_per_token = 4};
  EXPECT_EQ(route(rule, logits_TE, {}).experts_N, (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(Route, ANaNIsNeverChosenWhileThereIsAnythingElse) {
  const std::vector<float> scores_TE = {NAN, 0.1f, NAN, 0.2f};
  const RouterRule rule{.num_experts = 4, .experts_per_token = 2};
  EXPECT_EQ(choose_experts(rule, scores_TE, {}).experts_N, (std::vector<int32_t>{3, 1}));
}

TEST(Route, TheBiasSteersTheChoiceAndNeverTheWeight) {
  const RouterRule rule{.num_experts = 3, .experts_per_token = 1, .score = Score::Sigmoid, .renormalise = false};
  const std::vector<float> logits_TE = {2, 1, 0}, bias_E = {-1, 0, 0};
  const Routing routing = route(rule, logits_TE, bias_E);
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{1}));
  EXPECT_FLOAT_EQ(routing.weights_N[0], 1 / (1 + std::exp(-1.0f)));
}

// An independent answer, in double and by another road: sort all, exponentiate, normalise over the chosen.
TEST(Route, WeightsAreThoseOfTheDefinition) {
  for (const Score score : {Score::Softmax, Score::Sigmoid}) {
    for (const bool renormalise : {false, true}) {
      const RouterRule rule{.num_experts = 8, .experts_per_token = 3, .score = score, .renormalise = renormalise, .scale = 1.7f};
      Random random(3);
      std::vector<float> logits(8);
      for (float& x : logits) x = static_cast<float>(3 * random.normal());

      std::vector<double> scores(8);
      double total = 0;
      for (const float x : logits) total += std::exp(double{x});
      for (int e = 0; e < 8; ++e) {
        scores[e] = score == Score::Softmax ? std::exp(double{logits[e]}) / total : 1 / (1 + std::exp(-double{logits[e]}));
      }
      std::vector<int> order(8);
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
      const double chosen = scores[order[0]] + scores[order[1]] + scores[order[2]];

      const Routing routing = route(rule, logits, {});
      ASSERT_EQ(routing.num_visits(), 3);
      for (int k = 0; k < 3; ++k) {
        EXPECT_EQ(routing.experts_N[k], order[k]);
        EXPECT_NEAR(routing.weights_N[k], 1.7 * scores[order[k]] / (renormalise ? chosen : 1), 1e-6);
      }
    }
  }
}

// Groups of neighbours: worked by hand.
TEST(Route, OnlyTheBestGroupsTakePart) {
  RouterRule rule{.num_experts = 6, .experts_per_token = 2, .num_groups = 3, .groups_per_token = 1};
  const std::vector<float> scores_TE = {0.5f, 0.0f, 0.4f, 0.3f, 0.1f, 0.2f};
  EXPECT_EQ(choose_experts(rule, scores_TE, {}).experts_N, (std::vector<int32_t>{0, 1}));  // by its best expert
  rule.group_score = spec::GroupScore::BestTwo;
  EXPECT_EQ(choose_experts(rule, scores_TE, {}).experts_N, (std::vector<int32_t>{2, 3}));  // by its two best
  const std::vector<float> bias_E = {0, 0, 0, 0, 1, 1};  // steers the choice of groups too
  EXPECT_EQ(choose_experts(rule, scores_TE, bias_E).experts_N, (std::vector<int32_t>{5, 4}));
  rule.groups_per_token = 2;
  EXPECT_EQ(choose_experts(rule, scores_TE, {}).experts_N, (std::vector<int32_t>{0, 2}));
}

TEST(Route, EqualGroupsGoToTheLowerOne) {
  const RouterRule rule{.num_experts = 4, .experts_per_token = 1, .num_groups = 2, .groups_per_token = 1};
  EXPECT_EQ(choose_experts(rule, std::vector<float>{1, 2, 2, 1}, {}).experts_N, (std::vector<int32_t>{1}));
}

// Each weight is a softmax over those that come close, the second without the first: worked by hand.
TEST(Route, SparseMixerWeighsAgainstWhatComesClose) {
  const RouterRule rule{.num_experts = 4, .experts_per_token = 2, .score = Score::Logits,
                        .weigh = spec::Weigh::SparseMixer, .renormalise = false, .sparse_mixer_reach = 0.1f};
  // 9.5 lies (10 - 9.5) / 10 = 0.05 below 10, and 9 lies 0.1 below: not further than the reach; 8 does.
  const Routing routing = route(rule, std::vector<float>{8, 10, 9, 9.5f}, {});
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{1, 3}));
  EXPECT_NEAR(routing.weights_N[0], 1 / (1 + std::exp(-0.5) + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(routing.weights_N[1], 1 / (1 + std::exp(-0.5)), 1e-6);  // 8 lies 1.5 / 9.5 below
}

}  // namespace
}  // namespace moiety::moe
