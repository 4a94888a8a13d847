#include "moe/load.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moiety::moe {
namespace {

TEST(Load, CountsVisitsAndSaysHowUnevenTheyAre) {
  Load load(2, 4);
  Routing routing{.num_experts = 4, .begin_T1 = {0, 2, 4}, .experts_N = {0, 1, 0, 2}};
  load.add(1, routing);
  EXPECT_EQ(std::vector<int64_t>(load.of_layer(0).begin(), load.of_layer(0).end()), (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(std::vector<int64_t>(load.of_layer(1).begin(), load.of_layer(1).end()), (std::vector<int64_t>{2, 1, 1, 0}));
  const Balance balance = balance_of(load.of_layer(1));
  EXPECT_DOUBLE_EQ(balance.max_over_mean, 2);
  EXPECT_EQ(balance.idle, 1);
  EXPECT_NEAR(balance.entropy, 1.5 / 2, 1e-12);  // 1.5 bits of 2
  EXPECT_DOUBLE_EQ(balance_of(std::vector<int64_t>{5, 5}).entropy, 1);
}

TEST(Load, TheSelectionBiasFallsWhereLoadIsHigh) {
  std::vector<float> bias_E = {0, 0, 0};
  update_selection_bias(bias_E, std::vector<int64_t>{6, 2, 4}, 0.5f);
  EXPECT_EQ(bias_E, (std::vector<float>{-0.5f, 0.5f, 0}));
}

// The rule of Wang et al. 2024, algorithm 1, once more in other words: b += u * sign(mean load - load).
TEST(Load, TheSelectionBiasMovesByTheSignOfTheError) {
  const std::vector<int64_t> visits_E = {7, 0, 3, 3, 2};
  double mean = 0;
  for (const int64_t visits : visits_E) mean += static_cast<double>(visits) / 5;
  std::vector<float> bias_E = {0.5f, -0.25f, 0, 1, 0};
  std::vector<float> expected = bias_E;
  for (size_t e = 0; e < 5; ++e) {
    const double error = mean - static_cast<double>(visits_E[e]);
    expected[e] += 0.125f * static_cast<float>((error > 0) - (error < 0));
  }
  update_selection_bias(bias_E, visits_E, 0.125f);
  EXPECT_EQ(bias_E, expected);
}

TEST(Specialisation, IsNothingWhenAllDomainsLoadAlikeAndOneWhenTheyShareNoExpert) {
  const std::vector<int64_t> a = {2, 4, 6}, b = {1, 2, 3}, nothing = {0, 0, 0};
  EXPECT_NEAR(specialisation({a, b}), 0, 1e-12);  // of different size
  EXPECT_NEAR(specialisation({a, b, nothing}), 0, 1e-12);
  const std::vector<int64_t> first = {5, 1, 0}, last = {0, 0, 9};
  EXPECT_NEAR(specialisation({first, last}), 1, 1e-12);
  EXPECT_EQ(specialisation({a}), 0);
  EXPECT_EQ(specialisation({a, nothing}), 0);
  EXPECT_EQ(specialisation({}), 0);
}

// Mutual information by its other formula, H(D) - H(D | E), of a table worked with equal domains.
TEST(Specialisation, IsTheMutualInformationOfDomainAndExpert) {
  const std::vector<std::vector<int64_t>> visits = {{10, 30, 60}, {50, 0, 50}, {20, 20, 360}};
  double conditional = 0;
  for (size_t e = 0; e < 3; ++e) {
    double p[3], of_expert = 0;
    for (size_t d = 0; d < 3; ++d) {
      double total = 0;
      for (const int64_t v : visits[d]) total += static_cast<double>(v);
      of_expert += p[d] = static_cast<double>(visits[d][e]) / total / 3;
    }
    for (const double joint : p) conditional -= joint > 0 ? joint * std::log(joint / of_expert) : 0;
  }
  EXPECT_NEAR(specialisation({visits[0], visits[1], visits[2]}), (std::log(3.0) - conditional) / std::log(3.0), 1e-12);
}

}  // namespace
}  // namespace moiety::moe
