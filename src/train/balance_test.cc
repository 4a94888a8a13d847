#include "train/balance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kTokens = 700, kExperts = 5, kSequence = 100;

struct Fixture {
  explicit Fixture(spec::Score score) : rule{.num_experts = kExperts, .experts_per_token = 2, .score = score}, scores_TE(kTokens, kExperts) {
    Random random(4);
    routing.num_experts = kExperts;
    for (size_t t = 0; t < kTokens; ++t) {
      for (float& x : scores_TE.row(t)) x = static_cast<float>(2 * random.normal());
      moe::score(rule, scores_TE.row(t));
      // Ragged: none to three visits, not those that score best; sequences differ in what they like.
      for (uint64_t k = random.below(4); k > 0; --k) {
        routing.experts_N.push_back(static_cast<int32_t>((random.below(3) + t / kSequence) % kExperts));
      }
      routing.begin_T1.push_back(routing.num_visits());
    }
  }
  // By the definition, in double: the mean over groups of E * sum of f_e * p_e.
  double loss(size_t group, std::span<const int64_t> others_E, const Matrix<float>& scores) const {
    double sum = 0;
    for (size_t first = 0; first < kTokens; first += group) {
      std::vector<double> f(kExperts, 0), p(kExperts, 0);
      for (size_t e = 0; e < others_E.size(); ++e) f[e] = static_cast<double>(others_E[e]);
      for (size_t t = first; t < first + group; ++t) {
        for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) ++f[routing.experts_N[n]];
        const auto row = scores.row(t);
        const double total = std::accumulate(row.begin(), row.end(), 0.0);
        for (size_t e = 0; e < kExperts; ++e) p[e] += row[e] / total / static_cast<double>(group);
      }
      const double visits = std::accumulate(f.begin(), f.end(), 0.0);
      for (size_t e = 0; e < kExperts; ++e) sum += kExperts * f[e] / visits * p[e];
    }
    return sum / static_cast<double>(kTokens / group);
  }

  spec::RouterRule rule;
  Matrix<float> scores_TE;
  moe::Routing routing;
};

const std::vector<int64_t> kOthers = {500, 0, 20, 3, 77};

struct Case {
  BalanceScope scope;
  size_t sequence;
  std::vector<int64_t> others_E;
  size_t group;
  std::vector<int64_t> counted;  // of the others

  Balancing balancing() const { return {.scope = scope, .sequence = sequence, .others_E = others_E}; }
};
const Case kCases[] = {
    {BalanceScope::Micro, 0, {}, kTokens, {}},
    {BalanceScope::Micro, kSequence, {}, kTokens, {}},
    {BalanceScope::Sequence, kSequence, kOthers, kSequence, {}},
    {BalanceScope::Global, kSequence, kOthers, kTokens, kOthers},
};

TEST(Balance, IsItsDefinitionInEveryScope) {
  for (const spec::Score score : {spec::Score::Softmax, spec::Score::Sigmoid}) {
    const Fixture f(score);
    for (const Case& c : kCases) {
      const BalanceTerm term = balance_term(c.balancing(), f.rule, f.scores_TE.view(), f.routing);
      EXPECT_NEAR(term.loss, f.loss(c.group, c.counted, f.scores_TE), 1e-6);
    }
  }
}

// No gradient through the visits, so a small step of the scores changes the loss as the slopes say.
TEST(Balance, ItsGradientIsThatOfTheDefinition) {
  for (const Case& c : kCases) {
    const Fixture f(spec::Score::Sigmoid);
    const BalanceTerm term = balance_term(c.balancing(), f.rule, f.scores_TE.view(), f.routing);
    Random random(9);
    double expected = 0;
    Matrix<float> up(kTokens, kExperts), down(kTokens, kExperts);
    constexpr double kStep = 1e-3;
    for (size_t t = 0; t < kTokens; ++t) {
      std::vector<float> dscores_E(kExperts, 0.0f);
      add_balance_gradient(f.rule, term, 0.5f, t, f.scores_TE.row(t), dscores_E);
      for (size_t e = 0; e < kExperts; ++e) {
        const double direction = random.normal() * f.scores_TE.row(t)[e];
        expected += direction * dscores_E[e];
        up.row(t)[e] = static_cast<float>(f.scores_TE.row(t)[e] + kStep * direction);
        down.row(t)[e] = static_cast<float>(f.scores_TE.row(t)[e] - kStep * direction);
      }
    }
    const double difference = 0.5 * (f.loss(c.group, c.counted, up) - f.loss(c.group, c.counted, down)) / (2 * kStep);
    EXPECT_NEAR(difference, expected, 1e-4 * std::abs(expected) + 1e-6);
  }
}

// Passes of a step, each held to the visits of all: their mean is the loss of one pass over all tokens, and so is what the sums
// of the step say.
TEST(Balance, OfPassesThatKnowAllVisitsIsThatOfOnePass) {
  const Fixture f(spec::Score::Softmax);
  const float whole = balance_term({}, f.rule, f.scores_TE.view(), f.routing).loss;
  std::vector<int64_t> visits_E(kExperts, 0);
  for (const int32_t expert : f.routing.experts_N) ++visits_E[static_cast<size_t>(expert)];
  std::vector<double> wanted_E(kExperts, 0);
  double mean = 0;
  constexpr size_t kPasses = 4, kSize = kTokens / kPasses;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    moe::Routing routing{.num_experts = kExperts};
    std::vector<int64_t> others_E = visits_E;
    for (size_t t = pass * kSize; t < (pass + 1) * kSize; ++t) {
      for (int n = f.routing.begin_T1[t]; n < f.routing.begin_T1[t + 1]; ++n) {
        routing.experts_N.push_back(f.routing.experts_N[n]);
        --others_E[static_cast<size_t>(f.routing.experts_N[n])];
      }
      routing.begin_T1.push_back(routing.num_visits());
    }
    const BalanceTerm term = balance_term({BalanceScope::Global, 0, others_E}, f.rule, f.scores_TE.view().middle_rows(pass * kSize, kSize), routing);
    mean += term.loss / static_cast<double>(kPasses);
    for (size_t e = 0; e < kExperts; ++e) wanted_E[e] += term.wanted_E[e];
  }
  EXPECT_NEAR(mean, whole, 1e-6);
  EXPECT_NEAR(balance_of_sums(visits_E, wanted_E, kTokens), whole, 1e-6);
}

// f of each of the two that cost nothing is multiplied.
TEST(Balance, WeighsExpertsThatCostNothing) {
  const spec::RouterRule rule{.num_experts = 1, .experts_per_token = 1, .zero_experts = 1, .copy_experts = 1, .constant_experts = 0};
  Matrix<float> scores_TC(2, 3);
  std::ranges::copy(std::vector<float>{0.5f, 0.3f, 0.2f, 0.1f, 0.7f, 0.2f}, scores_TC.flat().begin());
  moe::Routing routing{.num_experts = 1, .begin_T1 = {0, 1, 1}, .experts_N = {0}};
  routing.zero_cost = {.begin_T1 = {0, 0, 1}, .experts_N = {1}};
  const std::vector<int64_t> others_C = {1, 0, 1};
  const auto loss = [&](float zero_cost) {
    return balance_term({.scope = BalanceScope::Global, .others_E = others_C, .zero_cost = zero_cost}, rule, scores_TC.view(), routing).loss;
  };
  const float expert = 3 * 0.5f * 0.3f, nothing = 3 * (0.25f * 0.5f + 0.25f * 0.2f);
  EXPECT_NEAR(loss(1), expert + nothing, 1e-6);
  EXPECT_NEAR(loss(0.25f), expert + 0.25f * nothing, 1e-6);
}

TEST(Balance, HasTheSameBitsOnAnyNumberOfThreads) {
  const Fixture f(spec::Score::Sigmoid);
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const BalanceTerm one = balance_term(kCases[3].balancing(), f.rule, f.scores_TE.view(), f.routing);
  const double entropy = router_entropy(f.rule, f.scores_TE.view());
  omp_set_num_threads(3);
  const BalanceTerm three = balance_term(kCases[3].balancing(), f.rule, f.scores_TE.view(), f.routing);
  EXPECT_EQ(one.loss, three.loss);
  EXPECT_EQ(one.wanted_E, three.wanted_E);
  EXPECT_EQ(entropy, router_entropy(f.rule, f.scores_TE.view()));
  omp_set_num_threads(before);
}

TEST(Balance, TheRoutersEntropyIsOneWhenItIsUndecidedAndNothingWhenItIsSure) {
  const spec::RouterRule rule{.num_experts = 4, .experts_per_token = 1};
  Matrix<float> even(3, 4), sure(3, 4), half(1, 4);
  for (float& x : even.flat()) x = 0.25f;
  for (size_t t = 0; t < 3; ++t) sure.row(t)[t] = 1;
  half.row(0)[1] = half.row(0)[2] = 0.5f;
  EXPECT_NEAR(router_entropy(rule, even.view()), 1, 1e-6);
  EXPECT_EQ(router_entropy(rule, sure.view()), 0);
  EXPECT_NEAR(router_entropy(rule, half.view()), 0.5, 1e-6);
}

}  // namespace
}  // namespace moiety::train
