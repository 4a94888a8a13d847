// SparseMixer's draws and their gradient.
#include "train/sparse_mixer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/functions.h"

namespace moiety::train {
namespace {

const spec::RouterRule kRule{.num_experts = 5, .experts_per_token = 2, .score = spec::Score::Logits, .weigh = spec::Weigh::SparseMixer,
                             .renormalise = false, .scale = 1.5f, .sparse_mixer_reach = 0.5f};
const std::vector<float> kLogits = {1.0f, 0.7f, 0.4f, 1.2f, -2.0f};  // of these 0.4 and -2 are too far from 1.2

TEST(SparseMixer, DrawsAsOftenAsThingsAreLikelyAndOnlyWhatComesClose) {
  const double sum = std::exp(1.0) + std::exp(0.7) + std::exp(1.2);
  const double p[] = {std::exp(1.0) / sum, std::exp(0.7) / sum, 0, std::exp(1.2) / sum, 0};
  const int draws = 40000;
  std::vector<double> first(5, 0);
  int whole = 0, others = 0;
  for (int i = 0; i < draws; ++i) {
    Random random(7, 0, static_cast<uint64_t>(i) * 4);
    moe::Routing routing{.num_experts = 5};
    draw_experts(kRule, kLogits, random, routing);
    ASSERT_EQ(routing.num_visits(), 2);
    const int32_t e = routing.experts_N[0];
    ASSERT_NE(e, routing.experts_N[1]);
    first[static_cast<size_t>(e)] += 1.0 / draws;
    const double weight = routing.weights_N[0] / kRule.scale;
    if (e == 3) {
      ASSERT_NEAR(weight, p[3], 1e-6);
      continue;
    }
    ++others;
    whole += weight > 0.6 * p[e];
    ASSERT_NEAR(weight, weight > 0.6 * p[e] ? p[e] : p[e] / 3, 1e-6);
  }
  for (size_t e = 0; e < 5; ++e) EXPECT_NEAR(first[e], p[e], 0.012) << e;  // five standard deviations
  EXPECT_NEAR(static_cast<double>(whole) / others, 0.25, 0.015);
}

// What plain autograd makes of the whole probabilities, though the weights may be a third of them.
TEST(SparseMixer, TheGradientIsThatOfTheWholeProbability) {
  const int64_t tokens = 200;
  const Tensor logits = torch::empty({tokens, 5});
  Random random(3);
  for (float& x : flat(logits)) x = static_cast<float>(1 + random.normal());
  const Tensor mine = logits.clone().set_requires_grad(true);
  const Routed routed = route(kRule, mine, {}, {.choosing = {.in_training = true, .chance = 11}});
  const moe::Routing& routing = routed.saved->plan->routing;
  const Tensor factors = torch::empty({2 * tokens});
  for (float& x : flat(factors)) x = static_cast<float>(random.normal());
  (routed.mix_N * factors).sum().backward();

  const Tensor plain = logits.to(torch::kFloat64).set_requires_grad(true);
  Tensor sum = torch::zeros({}, torch::kFloat64);
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<bool> is_open(5, true);
    for (int k = 0; k < 2; ++k) {
      const auto row = view(logits).row(static_cast<size_t>(t));
      float top = -INFINITY;
      for (size_t e = 0; e < 5; ++e) top = is_open[e] ? std::max(top, row[e]) : top;
      std::vector<int64_t> close;
      int64_t at = -1;
      const int32_t drawn = routing.experts_N[static_cast<size_t>(2 * t + k)];
      for (size_t e = 0; e < 5; ++e) {
        if (!is_open[e] || (top - row[e]) / std::max(std::abs(row[e]), top) > kRule.sparse_mixer_reach) continue;
        if (static_cast<int32_t>(e) == drawn) at = static_cast<int64_t>(close.size());
        close.push_back(static_cast<int64_t>(e));
      }
      ASSERT_GE(at, 0) << "drawn from those that come close";
      const Tensor p = torch::softmax(plain[t].index_select(0, torch::tensor(close)), 0)[at] * double{kRule.scale};
      const double weight = routing.weights_N[static_cast<size_t>(2 * t + k)], whole = p.item<double>();
      ASSERT_TRUE(std::abs(weight - whole) < 1e-5 || std::abs(weight - whole / 3) < 1e-5);
      sum = sum + p * factors[2 * t + k].to(torch::kFloat64);
      is_open[static_cast<size_t>(drawn)] = false;
    }
  }
  sum.backward();
  EXPECT_LT((mine.grad().to(torch::kFloat64) - plain.grad()).abs().max().item<double>(), 1e-5);
}

TEST(SparseMixer, TheSameChanceDrawsTheSameWhateverTheThreads) {
  const Tensor logits = torch::ones({700, 5});
  const auto drawn = [&](int threads, uint64_t chance) {
    omp_set_num_threads(threads);
    return router_forward(kRule, view(logits), {}, {.choosing = {.in_training = true, .chance = chance}}).plan->routing.experts_N;
  };
  const int threads = omp_get_max_threads();
  EXPECT_EQ(drawn(1, 5), drawn(3, 5));
  EXPECT_NE(drawn(1, 5), drawn(1, 6));
  omp_set_num_threads(threads);
}

}  // namespace
}  // namespace moiety::train
