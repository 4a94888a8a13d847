#include "upcycle/experts.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "upcycle/test_support.h"

namespace moiety::upcycle {
namespace {

using spec::Role;
using Numbers = std::vector<double>;

Numbers times(const std::vector<float>& matrix, const Numbers& x) {
  Numbers y(matrix.size() / x.size());
  for (size_t i = 0; i < matrix.size(); ++i) y[i / x.size()] += matrix[i] * x[i % x.size()];
  return y;
}

// down(silu(gate x) * up x), plainly.
Numbers feed_forward(const std::vector<float>& gate, const std::vector<float>& up, const std::vector<float>& down,
                     const Numbers& x) {
  Numbers hidden = times(gate, x);
  const Numbers linear = times(up, x);
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = hidden[i] / (1 + std::exp(-hidden[i])) * linear[i];
  return times(down, hidden);
}

Numbers dense_output(const MadeModel& m, const Numbers& x) {
  return feed_forward(m.make({Role::DenseGate, 0}), m.make({Role::DenseUp, 0}), m.make({Role::DenseDown, 0}), x);
}

struct Mixed {
  Numbers sum;
  std::vector<size_t> chosen;
};

// Softmax, the k best, their weights made to sum to one: written here once more.
Mixed mixture_output(const MadeModel& m, const Numbers& x) {
  const spec::RouterRule& rule = m.spec.moe.router;
  Numbers scores = times(m.make({Role::Router, 0}), x);
  for (double& s : scores) s = rule.score == spec::Score::Softmax ? std::exp(s) : 1 / (1 + std::exp(-s));
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(rule.experts_per_token));
  double all = 0;
  for (const size_t e : order) all += scores[e];
  Mixed out{.sum = Numbers(x.size()), .chosen = order};
  for (const size_t e : order) {
    const int expert = static_cast<int>(e);
    const Numbers y = feed_forward(m.make({Role::ExpertGate, 0, expert}), m.make({Role::ExpertUp, 0, expert}),
                                   m.make({Role::ExpertDown, 0, expert}), x);
    for (size_t i = 0; i < y.size(); ++i) out.sum[i] += scores[e] / all * y[i];
  }
  return out;
}

Numbers random_input(size_t width, uint64_t seed) {
  Random random(seed);
  Numbers x(width);
  for (double& value : x) value = random.normal();
  return x;
}

void expect_equal(const Numbers& a, const Numbers& b, double within) {
  RC_ASSERT(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) RC_ASSERT(std::abs(a[i] - b[i]) <= within * (1 + std::abs(b[i])));
}

TEST(MixExperts, WholeCopiesGiveWhatTheDenseFeedForwardGave) {
  const bool held = rc::check([] {
    const int width = *rc::gen::inRange(1, 20), parts = *rc::gen::inRange(1, 6), unit = *rc::gen::inRange(1, 6),
              copies = *rc::gen::inRange(1, 5);
    const int taken = *rc::gen::inRange(1, copies + 1);
    const Copies how{.copies = copies,
                     .parts = parts,
                     .experts_per_token = taken * parts,
                     .score = *rc::gen::element(spec::Score::Softmax, spec::Score::Sigmoid),
                     .gate = {.deviation = 0.5}};
    spec::ModelSpec spec = dense_spec(1, width, parts * unit);
    const MadeModel dense = random_model(spec, 1);
    const MadeModel mixture = mix_experts({dense}, how);
    RC_ASSERT(mixing_preserves(mixture, 1, how));
    const Numbers x = random_input(static_cast<size_t>(width), *rc::gen::arbitrary<uint64_t>());
    const Mixed mixed = mixture_output(mixture, x);
    expect_equal(mixed.sum, dense_output(dense, x), 1e-5);
    // All parts of a copy or none.
    std::vector<int> of_copy(static_cast<size_t>(copies));
    for (const size_t e : mixed.chosen) ++of_copy[e / static_cast<size_t>(parts)];
    for (const int count : of_copy) RC_ASSERT(count == 0 || count == parts);
  });
  EXPECT_TRUE(held);
}

TEST(MixExperts, ScoresThatDontSumToOneGiveTheDenseOutputWhereTheyAreEqual) {
  for (const spec::Score score : {spec::Score::Softmax, spec::Score::Sigmoid}) {
    const Copies how{
        .copies = 3, .parts = 2, .experts_per_token = 4, .score = score, .renormalise = false, .gate = {.deviation = 0}};
    const MadeModel dense = random_model(dense_spec(1, 8, 12), 1);
    const MadeModel mixture = mix_experts({dense}, how);
    EXPECT_FALSE(mixing_preserves(mixture, 1, how));
    const Numbers x = random_input(8, 5);
    Numbers sum(8);
    const double weight = score == spec::Score::Softmax ? 1.0 / 6 : 0.5;
    for (int e = 0; e < 4; ++e) {
      const Numbers y = feed_forward(mixture.make({Role::ExpertGate, 0, e}), mixture.make({Role::ExpertUp, 0, e}),
                                     mixture.make({Role::ExpertDown, 0, e}), x);
      for (size_t i = 0; i < 8; ++i) sum[i] += weight * y[i];
    }
    const Numbers wanted = dense_output(dense, x);
    for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(sum[i], wanted[i], 1e-5);
  }
}

TEST(MixExperts, AnExpertIsOneModelsFeedForwardAndTheRestTheirMean) {
  const spec::ModelSpec spec = dense_spec(2, 8, 12);
  const std::vector<MadeModel> models = {random_model(spec, 1), random_model(spec, 2), random_model(spec, 3)};
  const MadeModel mixture = mix_experts(models, {});
  EXPECT_EQ(mixture.spec.moe.router.num_experts, 3);
  for (int m = 0; m < 3; ++m) {
    const auto model = static_cast<size_t>(m);
    EXPECT_EQ(mixture.make({Role::ExpertGate, 1, m}), models[model].make({Role::DenseGate, 1}));
    EXPECT_EQ(mixture.make({Role::ExpertUp, 1, m}), models[model].make({Role::DenseUp, 1}));
    EXPECT_EQ(mixture.make({Role::ExpertDown, 1, m}), models[model].make({Role::DenseDown, 1}));
  }
  const std::vector<float> mean = mixture.make({Role::Query, 1});
  for (size_t i = 0; i < mean.size(); ++i) {
    float sum = 0;
    for (const MadeModel& model : models) sum += model.make({Role::Query, 1})[i];
    EXPECT_NEAR(mean[i], sum / 3, 1e-6);
  }
}

TEST(MixExperts, AttentionExpertsAreOneModelsQueriesAndOutputs) {
  const spec::ModelSpec spec = dense_spec(2, 8, 12);
  const std::vector<MadeModel> models = {random_model(spec, 1), random_model(spec, 2)};
  const MadeModel mixture = mix_experts(models, {.attention_experts_per_token = 2});
  EXPECT_EQ(mixture.spec.attention.num_heads, 8);
  for (const auto& [stack, one] :
       {std::pair{Role::AttentionExpertQuery, Role::Query}, {Role::AttentionExpertOutput, Role::AttentionOutput}}) {
    const std::vector<float> both = mixture.make({stack, 1});
    std::vector<float> wanted = models[0].make({one, 1});
    const std::vector<float> second = models[1].make({one, 1});
    wanted.insert(wanted.end(), second.begin(), second.end());
    EXPECT_EQ(both, wanted);
  }
}

// Every gate's weights have the sizes that the spec calls for, and copies' parts the same rows.
TEST(MixExperts, RoutersOfEveryGate) {
  for (const spec::Gate gate :
       {spec::Gate::Linear, spec::Gate::Cosine, spec::Gate::Recurrent, spec::Gate::Ahead, spec::Gate::Decoupled}) {
    const bool narrow = gate != spec::Gate::Linear && gate != spec::Gate::Ahead;
    const MadeModel mixture =
        mix_experts({random_model(dense_spec(2, 8, 12), 1)},
                    {.copies = 3, .parts = 2, .keep_dense = true, .gate = {.kind = gate, .width = narrow ? 5 : 0}});
    for (const spec::Weight& weight : spec::weights_of(mixture.spec, true)) {
      const std::vector<int64_t> shape = spec::shape_of(mixture.spec, weight.role, weight.layer);
      size_t size = 1;
      for (const int64_t extent : shape) size *= static_cast<size_t>(extent);
      const std::vector<float> values = mixture.make(weight);
      ASSERT_EQ(values.size(), size) << static_cast<int>(weight.role);
      if (weight.role != Role::Router) continue;
      const ptrdiff_t cols = static_cast<ptrdiff_t>(shape[1]);
      for (ptrdiff_t copy = 0; copy < 3; ++copy) {
        const auto row = values.begin() + 2 * copy * cols;
        EXPECT_TRUE(std::equal(row, row + cols, row + cols));
      }
    }
  }
}

TEST(MixExperts, NoiseIsAShareOfEachMatrixAndDiffersBetweenExperts) {
  const MadeModel dense = random_model(dense_spec(1, 32, 64), 1);
  const MadeModel mixture = mix_experts({dense}, {.copies = 2, .noise = 0.1});
  const std::vector<float> plain = dense.make({Role::DenseGate, 0}), a = mixture.make({Role::ExpertGate, 0, 0}),
                           b = mixture.make({Role::ExpertGate, 0, 1});
  double size = 0, first = 0, between = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    size += plain[i] * plain[i];
    first += (a[i] - plain[i]) * (a[i] - plain[i]);
    between += (a[i] - b[i]) * (a[i] - b[i]);
  }
  EXPECT_NEAR(std::sqrt(first / size), 0.1, 0.01);
  EXPECT_NEAR(std::sqrt(between / size), 0.1 * std::sqrt(2.0), 0.01);
  EXPECT_EQ(a, mixture.make({Role::ExpertGate, 0, 0}));
}

TEST(MixExperts, EveryOtherLayerAfterTheFirstDenseOnes) {
  using enum spec::FeedForward;
  const MadeModel mixture = mix_experts({random_model(dense_spec(6, 8, 12), 1)}, {.dense_layers = 1, .every = 2});
  EXPECT_EQ(mixture.spec.feed_forward, (std::vector{Dense, Dense, Moe, Dense, Moe, Dense}));
}

std::string error_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(MixExperts, WhatDoesNotFitIsSaid) {
  const MadeModel dense = random_model(dense_spec(2, 8, 12), 1), wider = random_model(dense_spec(2, 8, 16), 1);
  EXPECT_EQ(error_of([&] {
              mix_experts({dense, wider}, {});
            }),
            "the models don't fit each other: \"dense_hidden\" is 12 in the first and 16 in another");
  EXPECT_EQ(error_of([&] { mix_experts({dense}, {.parts = 5}); }),
            "a feed-forward of 12 hidden units can't be divided into 5 experts");
  EXPECT_EQ(error_of([&] { mix_experts({dense, dense}, {.copies = 3}); }), "3 copies can't be made evenly of 2 models");
  EXPECT_EQ(error_of([&] { mix_experts({mix_experts({dense}, {})}, {}); }),
            "the model has experts already; what becomes experts are the feed-forwards of a dense one");
  EXPECT_EQ(error_of([&] { mix_experts({dense}, {.copies = 2, .experts_per_token = 3}); }),
            "3 experts per token, of 2 copies in 1 parts");
  EXPECT_EQ(error_of([&] { mix_experts({dense}, {.dense_layers = 2}); }), "2 layers stay dense, of 2");
}

}  // namespace
}  // namespace moiety::upcycle
