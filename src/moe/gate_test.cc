#include "moe/gate.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <cmath>
#include <set>

#include "base/random.h"
#include "moe/route.h"
#include "moe/tree.h"

namespace moiety::moe {
namespace {

using spec::Gate;
using spec::RouterRule;

TEST(HashGate, EveryTokenHasDifferentExpertsAndEveryExpertAsManyTokens) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const int experts = 1 + static_cast<int>(random.below(20)), per_token = 1 + static_cast<int>(random.below(static_cast<uint64_t>(experts)));
    const int rounds = static_cast<int>(random.below(9)), rest = static_cast<int>(random.below(static_cast<uint64_t>(experts)));
    const int vocabulary = std::max(1, rounds * experts + rest);
    const RouterRule rule{.num_experts = experts, .experts_per_token = per_token, .gate = Gate::Hash, .gate_seed = static_cast<int64_t>(seed >> 1)};
    const std::vector<int32_t> experts_VK = hashed_experts(rule, 3, vocabulary);
    RC_ASSERT(experts_VK.size() == static_cast<size_t>(vocabulary * per_token));
    std::vector<int> tokens_E(static_cast<size_t>(experts));
    for (int v = 0; v < vocabulary; ++v) {
      const auto begin = experts_VK.begin() + v * per_token;
      RC_ASSERT(std::set<int32_t>(begin, begin + per_token).size() == static_cast<size_t>(per_token));
      for (int k = 0; k < per_token; ++k) ++tokens_E.at(static_cast<size_t>(begin[k]));
    }
    // A whole round gives each expert the same; what is left over gives each at most one a choice.
    for (const int tokens : tokens_E) {
      RC_ASSERT(tokens >= vocabulary / experts * per_token);
      RC_ASSERT(tokens <= vocabulary / experts * per_token + std::min(per_token, vocabulary % experts));
    }
  });
}

TEST(HashGate, LayersAndSeedsDiffer) {
  RouterRule rule{.num_experts = 16, .experts_per_token = 1, .gate = Gate::Hash};
  const auto first = hashed_experts(rule, 0, 1000), second = hashed_experts(rule, 1, 1000);
  rule.gate_seed = 1;
  const auto other = hashed_experts(rule, 0, 1000);
  for (const auto& experts : {second, other}) {
    int same = 0;
    for (size_t v = 0; v < first.size(); ++v) same += first[v] == experts[v];
    EXPECT_LT(same, 120);  // one in sixteen by chance
  }
}

// Models on disk hold no table: what a token visits must never change.
TEST(HashGate, StaysWhatItIs) {
  const RouterRule rule{.num_experts = 8, .experts_per_token = 2, .gate = Gate::Hash, .gate_seed = 5};
  const auto experts = hashed_experts(rule, 2, 100);
  EXPECT_EQ(std::vector<int32_t>(experts.begin(), experts.begin() + 8), (std::vector<int32_t>{1, 0, 6, 7, 1, 7, 6, 1}));
  std::array<int32_t, 2> drawn;
  random_experts(rule, {2, 7, 11, 0}, drawn);
  EXPECT_EQ(drawn, (std::array<int32_t, 2>{1, 3}));
}

TEST(RandomGate, EverySetOfExpertsIsAsLikely) {
  const RouterRule rule{.num_experts = 5, .experts_per_token = 2, .gate = Gate::Random, .gate_seed = 9};
  std::array<std::array<int, 5>, 5> count{};
  constexpr int kDraws = 20000;
  std::array<int32_t, 2> experts;
  for (int i = 0; i < kDraws; ++i) {
    random_experts(rule, {1, static_cast<size_t>(i % 100), i / 100, 3}, experts);
    ASSERT_NE(experts[0], experts[1]);
    ++count[static_cast<size_t>(std::min(experts[0], experts[1]))][static_cast<size_t>(std::max(experts[0], experts[1]))];
  }
  // Ten sets: 2000 each, with a standard deviation of 42.
  for (size_t a = 0; a < 5; ++a) {
    for (size_t b = a + 1; b < 5; ++b) EXPECT_NEAR(count[a][b], kDraws / 10, 250);
  }
}

TEST(RandomGate, IsAFunctionOfSeedLayerPositionTokenAndDraw) {
  RouterRule rule{.num_experts = 1000, .experts_per_token = 3, .gate = Gate::Random};
  const auto drawn = [&](const Occasion& occasion) {
    std::array<int32_t, 3> experts;
    random_experts(rule, occasion, experts);
    return experts;
  };
  const auto first = drawn({1, 2, 3, 4});
  EXPECT_EQ(drawn({1, 2, 3, 4}), first);
  for (const Occasion& other : {Occasion{2, 2, 3, 4}, Occasion{1, 3, 3, 4}, Occasion{1, 2, 4, 4}, Occasion{1, 2, 3, 5}}) {
    EXPECT_NE(drawn(other), first);
  }
  rule.gate_seed = 1;
  EXPECT_NE(drawn({1, 2, 3, 4}), first);
}

TEST(Choose, ASoftmaxSharesTheWeightAmongTheChosen) {
  const RouterRule rule{.num_experts = 6, .experts_per_token = 2, .gate = Gate::Hash, .scale = 3};
  std::vector<float> logits_E(6, 7.0f);
  choose(std::array<int32_t, 2>{4, 1}, logits_E);
  const Routing routing = route(rule, logits_E, {});
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(routing.weights_N, (std::vector<float>{1.5f, 1.5f}));
}

// A tree written otherwise: each leaf looks for its own way from the root, in double.
double reached(const RouterRule& rule, std::span<const float> decisions, size_t leaf) {
  double product = 1;
  for (size_t begin = 0, end = decisions.size() + 1; end - begin > 1;) {
    const size_t middle = (begin + end) / 2;
    const double t = std::clamp(decisions[middle - 1] / double{rule.gate_step}, -0.5, 0.5);
    const double right = 3 * (t + 0.5) * (t + 0.5) - 2 * std::pow(t + 0.5, 3);
    product *= leaf >= middle ? right : 1 - right;
    (leaf >= middle ? begin : end) = middle;
  }
  return product;
}

std::vector<double> tree_weights(const RouterRule& rule, std::span<const float> decisions, std::span<const float> leaves) {
  const size_t experts = static_cast<size_t>(rule.num_experts);
  std::vector<double> weights_E(experts);
  double all = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const double weight = reached(rule, decisions.subspan(i / experts * (experts - 1), experts - 1), i % experts) * std::exp(double{leaves[i]});
    weights_E[i % experts] += weight;
    all += weight;
  }
  for (double& weight : weights_E) weight /= all;
  return weights_E;
}

struct Trees {
  RouterRule rule;
  std::vector<float> decisions, leaves, logits_E;

  explicit Trees(uint64_t seed, float step) {
    Random random(seed);
    rule = {.num_experts = 2 + static_cast<int>(random.below(12)), .gate = Gate::Tree, .gate_step = step};
    rule.experts_per_token = 1 + static_cast<int>(random.below(static_cast<uint64_t>(std::min(4, rule.num_experts))));
    const size_t experts = static_cast<size_t>(rule.num_experts), trees = static_cast<size_t>(rule.experts_per_token);
    decisions.resize(trees * (experts - 1)), leaves.resize(trees * experts), logits_E.resize(experts);
    for (float& x : decisions) x = static_cast<float>(random.normal());
    for (float& x : leaves) x = static_cast<float>(random.normal());
    tree_logits(rule, decisions, leaves, logits_E);
  }
  std::vector<float> weights() const {
    std::vector<float> weights_E = logits_E;
    score(rule, weights_E);
    return weights_E;
  }
};

TEST(TreeGate, WeighsAsItsDefinitionSays) {
  rc::check([](uint64_t seed) {
    for (const float step : {0.5f, 1.0f, 4.0f}) {
      const Trees t(seed, step);
      const std::vector<float> weights = t.weights();
      const std::vector<double> expected = tree_weights(t.rule, t.decisions, t.leaves);
      for (size_t e = 0; e < weights.size(); ++e) RC_ASSERT(std::abs(weights[e] - expected[e]) < 1e-5);
    }
  });
}

TEST(TreeGate, SharpTreesReachAtMostOneExpertEachAndWeightsSumToOne) {
  rc::check([](uint64_t seed) {
    const Trees t(seed, 1e-4f);
    const Routing routing = route(t.rule, t.logits_E, {});
    const auto is_some = [](float weight) { return weight > 0; };
    RC_ASSERT(std::ranges::count_if(t.weights(), is_some) <= t.rule.experts_per_token);
    float sum = 0;
    for (const float weight : routing.weights_N) sum += weight;
    RC_ASSERT(std::abs(sum - 1) < 1e-5);
  });
}

// Central differences of the definition in double, of a sum of the weights by which chance multiplies them.
TEST(TreeGate, GradientsAreFiniteDifferences) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Trees t(seed, 3.0f);
    Random random(seed, 1);
    std::vector<float> by_E(t.logits_E.size());
    for (float& x : by_E) x = static_cast<float>(random.normal());
    const std::vector<float> weights = t.weights();
    float mean = 0;
    for (size_t e = 0; e < by_E.size(); ++e) mean += by_E[e] * weights[e];
    std::vector<float> dlogits(by_E.size()), ddecisions(t.decisions.size()), dleaves(t.leaves.size());
    for (size_t e = 0; e < by_E.size(); ++e) dlogits[e] = weights[e] * (by_E[e] - mean);
    tree_logits_backward(t.rule, t.decisions, t.leaves, t.logits_E, dlogits, ddecisions, dleaves);

    const auto loss = [&] {
      const std::vector<double> w = tree_weights(t.rule, t.decisions, t.leaves);
      double sum = 0;
      for (size_t e = 0; e < w.size(); ++e) sum += by_E[e] * w[e];
      return sum;
    };
    for (auto [values, gradients] : {std::pair(&t.decisions, &ddecisions), std::pair(&t.leaves, &dleaves)}) {
      for (size_t i = 0; i < values->size(); ++i) {
        const float before = (*values)[i], above = before + 1e-3f, below = before - 1e-3f;
        (*values)[i] = above;
        const double up = loss();
        (*values)[i] = below;
        const double down = loss();
        (*values)[i] = before;
        EXPECT_NEAR((*gradients)[i], (up - down) / (double{above} - below), 1e-4) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace moiety::moe
