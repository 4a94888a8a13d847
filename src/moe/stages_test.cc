// The stages of routers against definitions, worked out in double or by properties.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/random.h"
#include "moe/entropy.h"
#include "moe/expert_choice.h"
#include "moe/route.h"

namespace moiety::moe {
namespace {

using spec::LogitActivation;
using spec::RouterRule;
using spec::Score;
using spec::Select;

std::vector<float> random_logits(size_t count, uint64_t seed, double spread = 2) {
  Random random(seed);
  std::vector<float> x(count);
  for (float& v : x) v = static_cast<float>(spread * random.normal());
  return x;
}

std::vector<float> softmax_scores(const RouterRule& rule, std::vector<float> logits) {
  const size_t choices = static_cast<size_t>(rule.num_choices());
  for (size_t at = 0; at < logits.size(); at += choices) score(rule, std::span(logits).subspan(at, choices));
  return logits;
}

// The visited experts of token t, real and free.
std::vector<int32_t> chosen(const Routing& r, int t) {
  std::vector<int32_t> ids(r.experts_N.begin() + r.begin_T1[t], r.experts_N.begin() + r.begin_T1[t + 1]);
  if (r.zero_cost.begin_T1.size() > 1) {
    ids.insert(ids.end(), r.zero_cost.experts_N.begin() + r.zero_cost.begin_T1[t], r.zero_cost.experts_N.begin() + r.zero_cost.begin_T1[t + 1]);
  }
  return ids;
}

// All ids, the largest key first.
std::vector<int32_t> ranking(std::span<const float> keys) {
  std::vector<int32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
  return order;
}

TEST(Score, IsTheDefinitionWithEveryActivationAndTemperature) {
  const std::vector<float> logits = random_logits(6, 1);
  for (const auto activation : {LogitActivation::None, LogitActivation::Tanh, LogitActivation::Sigmoid, LogitActivation::Silu}) {
    for (const Score kind : {Score::Softmax, Score::Sigmoid, Score::Logits}) {
      const RouterRule rule{.num_experts = 6, .experts_per_token = 2, .logit_activation = activation, .temperature = 0.3f, .score = kind};
      std::vector<double> expected;
      for (const double x : logits) {
        const double sigmoid = 1 / (1 + std::exp(-x));
        expected.push_back((activation == LogitActivation::None      ? x
                            : activation == LogitActivation::Tanh    ? std::tanh(x)
                            : activation == LogitActivation::Sigmoid ? sigmoid
                                                                     : x * sigmoid) / double{0.3f});
      }
      double sum = 0;
      for (const double x : expected) sum += std::exp(x);
      for (double& x : expected) x = kind == Score::Softmax ? std::exp(x) / sum : kind == Score::Sigmoid ? 1 / (1 + std::exp(-x)) : x;
      const std::vector<float> found = softmax_scores(rule, logits);
      for (size_t e = 0; e < 6; ++e) EXPECT_NEAR(found[e], expected[e], 2e-6 * std::max(1.0, std::abs(expected[e])));
    }
  }
}

// A low temperature is as good as switch, a high one as good as equal weights (dense to sparse).
TEST(Score, TemperatureGoesFromDenseToSparse) {
  RouterRule rule{.num_experts = 4, .experts_per_token = 4, .select = Select::Threshold, .threshold = 0.05f};
  const std::vector<float> logits = {1, 0.5f, 0, -0.5f};
  size_t before = 5;
  for (const float temperature : {10.0f, 0.5f, 0.3f, 0.1f}) {
    rule.temperature = temperature;
    const size_t visits = static_cast<size_t>(route(rule, logits, {}).num_visits());
    EXPECT_LE(visits, before);
    before = visits;
    EXPECT_TRUE(temperature < 10 || visits == 4);
  }
  EXPECT_EQ(before, 1u);
}

TEST(Select, GroupedTakesTheBestOfEachGroupAndEquallyManyWhateverTheScores) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const int groups = 1 + static_cast<int>(random.below(4)), size = 1 + static_cast<int>(random.below(5));
    const int each = 1 + static_cast<int>(random.below(static_cast<uint64_t>(size)));
    const RouterRule rule{.num_experts = groups * size, .experts_per_token = groups * each, .score = Score::Logits,
                          .select = Select::Grouped, .num_groups = groups, .groups_per_token = groups};
    std::vector<float> scores = random_logits(static_cast<size_t>(3 * groups * size), seed);
    if (random.below(4) == 0) scores[random.below(scores.size())] = NAN;
    const Routing routing = choose_experts(rule, scores, {});
    for (int t = 0; t < 3; ++t) {
      std::vector<int> visits_G(static_cast<size_t>(groups), 0);
      const auto ids = chosen(routing, t);
      RC_ASSERT(std::set<int32_t>(ids.begin(), ids.end()).size() == static_cast<size_t>(groups * each));
      for (const int32_t e : ids) ++visits_G[static_cast<size_t>(e / size)];
      for (int g = 0; g < groups; ++g) {
        RC_ASSERT(visits_G[static_cast<size_t>(g)] == each);
        const auto group = std::span(scores).subspan(static_cast<size_t>((t * groups + g) * size), static_cast<size_t>(size));
        if (std::ranges::any_of(group, [](float x) { return std::isnan(x); })) continue;
        const auto best = ranking(group);
        for (int i = 0; i < each; ++i) RC_ASSERT(std::ranges::count(ids, g * size + best[static_cast<size_t>(i)]) == 1);
      }
    }
  });
}

TEST(Select, TopPIsTheSmallestPrefixThatReachesP) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const int experts = 1 + static_cast<int>(random.below(12)), most = 1 + static_cast<int>(random.below(static_cast<uint64_t>(experts)));
    const RouterRule rule{.num_experts = experts, .experts_per_token = most, .select = Select::TopP,
                          .top_p = static_cast<float>(0.01 + 0.99 * random.uniform())};
    const std::vector<float> scores = softmax_scores(rule, random_logits(static_cast<size_t>(experts), seed + 1));
    const auto ids = chosen(choose_experts(rule, scores, {}), 0);
    const auto order = ranking(scores);
    RC_ASSERT(!ids.empty() && ids.size() <= static_cast<size_t>(most));
    RC_ASSERT(std::equal(ids.begin(), ids.end(), order.begin()));
    double sum = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) sum += scores[static_cast<size_t>(ids[i])];
    RC_ASSERT(sum < rule.top_p + 1e-6);
    sum += scores[static_cast<size_t>(ids.back())];
    RC_ASSERT(sum > rule.top_p - 1e-6 || ids.size() == static_cast<size_t>(most));
  });
}

TEST(Select, ThresholdTakesWhatReachesItAtLeastOneAndNotTooMany) {
  RouterRule rule{.num_experts = 5, .experts_per_token = 3, .score = Score::Sigmoid, .select = Select::Threshold, .threshold = 0.5f};
  const std::vector<float> scores = {0.5f, 0.2f, 0.9f, 0.49f, 0.3f};
  EXPECT_EQ(chosen(choose_experts(rule, scores, {}), 0), (std::vector<int32_t>{2, 0}));
  rule.threshold = 0.95f;
  EXPECT_EQ(chosen(choose_experts(rule, scores, {}), 0), (std::vector<int32_t>{2}));
  rule.threshold = 0;
  EXPECT_EQ(chosen(choose_experts(rule, scores, {}), 0), (std::vector<int32_t>{2, 0, 3}));
  rule.threshold = 0.5f;
  EXPECT_EQ(chosen(choose_experts(rule, scores, std::vector<float>{0, 0.4f, -1, 0, 0}), 0), (std::vector<int32_t>{1, 0}));
}

TEST(Entropy, IsTheDefinitionAndItsSlopeItsDerivative) {
  const std::vector<float> p = {0.5f, 0.3f, 0.15f, 0.05f, 0.0f};
  for (const double q : {0.5, 1.0, 1.1, 2.0}) {
    const auto entropy_in_double = [q](const std::vector<double>& shares) {
      double sum = 0;
      for (const double share : shares) {
        if (share > 0) sum += q == 1 ? -share * std::log(share) : (share - std::pow(share, q)) / (q - 1);
      }
      return sum;
    };
    const std::vector<double> exact(p.begin(), p.end());
    EXPECT_NEAR(entropy(static_cast<float>(q), p), entropy_in_double(exact), 1e-5);
    EXPECT_NEAR(entropy_of_equals(static_cast<float>(q), 5), entropy_in_double(std::vector<double>(5, 0.2)), 1e-5);
    for (size_t e = 0; e < 4; ++e) {
      // The definition's sum of shares is no longer one off the simplex: (1 - sum p^q) / (q - 1) moves by the powers alone.
      const double h = 1e-5, up = exact[e] + h, down = exact[e] - h;
      const auto term = [q](double share) { return q == 1 ? -share * std::log(share) : -std::pow(share, q) / (q - 1); };
      EXPECT_NEAR(entropy_slope(static_cast<float>(q), p[e]), (term(up) - term(down)) / (2 * h), 1e-3);
    }
  }
  EXPECT_NEAR(entropy(1.002f, p), entropy(1, p), 5e-3);
}

// Undecided tokens go to all, decided ones to the top k, those between as far as top_p reaches.
TEST(Select, TsallisGoesByTheEntropy) {
  const RouterRule rule{.num_experts = 6, .experts_per_token = 2, .select = Select::Tsallis, .top_p = 0.8f, .tsallis_q = 1.1f, .soft_entropy = 0.9f};
  const auto count = [&](std::vector<float> scores) { return choose_experts(rule, scores, {}).num_visits(); };
  EXPECT_EQ(count(std::vector<float>(6, 1.0f / 6)), 6);
  EXPECT_EQ(count({0.95f, 0.01f, 0.01f, 0.01f, 0.01f, 0.01f}), 2);
  EXPECT_EQ(count({0.4f, 0.3f, 0.25f, 0.03f, 0.01f, 0.01f}), 3);
}

TEST(ZeroCost, IdsAfterTheRealOnesGoTheirOwnWay) {
  const RouterRule rule{.num_experts = 2, .experts_per_token = 3, .null_experts = 1, .zero_experts = 1, .copy_experts = 1, .constant_experts = 2};
  EXPECT_EQ(rule.num_choices(), 7);
  EXPECT_EQ(rule.first_constant(), 5);
  const spec::ZeroCost kinds[] = {spec::ZeroCost::Null, spec::ZeroCost::Zero, spec::ZeroCost::Copy, spec::ZeroCost::Constant, spec::ZeroCost::Constant};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(rule.kind_of(2 + i), kinds[i]);
  const std::vector<float> logits = {3, 0, 2, 0, 1, 0, -1, /**/ 0, 5, 0, 4, 0, 0, 3, /**/ 0, 0, 9, 8, 7, 0, 0};
  const Routing routing = route(rule, logits, {});
  EXPECT_EQ(routing.begin_T1, (std::vector<int32_t>{0, 1, 2, 2}));
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(routing.zero_cost.begin_T1, (std::vector<int32_t>{0, 2, 4, 7}));
  EXPECT_EQ(routing.zero_cost.experts_N, (std::vector<int32_t>{2, 4, 3, 6, 2, 3, 4}));
}

// The true experts share the weight of the null ones; zero experts keep theirs, which goes nowhere.
TEST(ZeroCost, WeightsAreRenormalisedOverAllButNullExperts) {
  const RouterRule rule{.num_experts = 2, .experts_per_token = 4, .null_experts = 1, .zero_experts = 1};
  const std::vector<float> logits = {1, 2, 3, 0.5f};
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(0.5);
  const Routing routing = route(rule, logits, {});
  ASSERT_EQ(routing.experts_N, (std::vector<int32_t>{1, 0}));
  EXPECT_NEAR(routing.weights_N[0], std::exp(2.0) / sum, 1e-6);
  EXPECT_NEAR(routing.weights_N[1], std::exp(1.0) / sum, 1e-6);
  ASSERT_EQ(routing.zero_cost.experts_N, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(routing.zero_cost.weights_N[0], 0);
  EXPECT_NEAR(routing.zero_cost.weights_N[1], std::exp(0.5) / sum, 1e-6);
}

const RouterRule kByExperts{.num_experts = 8, .experts_per_token = 2, .select = Select::ExpertChoice, .has_selection_bias = true,
                            .renormalise = false};

TEST(ExpertChoice, EachExpertTakesItsCapacityOfTheBestTokens) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const size_t tokens = 1 + random.below(60);
    const std::vector<float> scores = softmax_scores(kByExperts, random_logits(tokens * 8, seed));
    const Routing routing = choose_tokens(kByExperts, scores).routing;
    const size_t capacity = std::max<size_t>(1, static_cast<size_t>(std::lround(static_cast<double>(tokens) / 4)));
    RC_ASSERT(routing.num_tokens() == static_cast<int>(tokens));
    for (size_t e = 0; e < 8; ++e) {
      std::vector<float> column;
      for (size_t t = 0; t < tokens; ++t) column.push_back(scores[t * 8 + e]);
      const auto best = ranking(column);
      for (size_t i = 0; i < tokens; ++i) {
        const auto ids = chosen(routing, best[i]);
        RC_ASSERT(std::ranges::count(ids, static_cast<int32_t>(e)) == (i < capacity ? 1 : 0));
      }
    }
  });
}

// On the tokens that the cut-offs come from the rule that serves makes the experts' own choice.
TEST(ExpertChoice, TheCutOffsAsBiasGiveTheSameChoice) {
  const std::vector<float> scores = softmax_scores(kByExperts, random_logits(8 * 300, 5));
  const ExpertChoice choice = choose_tokens(kByExperts, scores);
  std::vector<float> bias(8, 0.0f);
  follow_cut_offs(bias, choice.cut_off_E, 1);
  const Routing served = choose_experts(kByExperts, scores, bias);
  EXPECT_EQ(served.begin_T1, choice.routing.begin_T1);
  for (int t = 0; t < 300; ++t) {
    const auto a = chosen(served, t), b = chosen(choice.routing, t);
    EXPECT_EQ(std::set<int32_t>(a.begin(), a.end()), std::set<int32_t>(b.begin(), b.end()));
  }
}

// The gap between training and serving: of the visits of a fresh batch, how many both make. docs/training.md tells the number.
TEST(ExpertChoice, LearntCutOffsServeNearlyTheExpertsChoice) {
  const size_t tokens = 1024;
  const auto batch = [&](uint64_t seed) {
    std::vector<float> logits = random_logits(tokens * 8, seed, 1);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] += 0.3f * static_cast<float>(i % 8);  // some are liked more than others
    return softmax_scores(kByExperts, std::move(logits));
  };
  std::vector<float> bias(8, 0.0f);
  for (uint64_t step = 0; step < 100; ++step) {
    follow_cut_offs(bias, choose_tokens(kByExperts, batch(step)).cut_off_E, static_cast<float>(std::max(0.01, 1.0 / static_cast<double>(step + 1))));
  }
  const std::vector<float> scores = batch(1000);
  const Routing trained = choose_tokens(kByExperts, scores).routing, served = choose_experts(kByExperts, scores, bias);
  size_t common = 0;
  for (int t = 0; t < static_cast<int>(tokens); ++t) {
    const auto a = chosen(trained, t);
    for (const int32_t e : chosen(served, t)) common += static_cast<size_t>(std::ranges::count(a, e));
  }
  const double agreement = 2.0 * static_cast<double>(common) / (trained.num_visits() + served.num_visits());
  RecordProperty("agreement", std::to_string(agreement));
  EXPECT_GT(agreement, 0.95);
  EXPECT_NEAR(served.num_visits(), trained.num_visits(), 0.05 * trained.num_visits());
}

}  // namespace
}  // namespace moiety::moe
