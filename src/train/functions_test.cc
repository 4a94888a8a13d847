// Every step of the graph against plain autograd in double precision, and against finite differences.
#include "train/functions.h"

#include <numeric>

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"
#include "train/attention_experts.h"
#include "train/feed_forward_experts.h"
#include "train/gru_experts.h"
#include "train/reference_model.h"

namespace moiety::train {
namespace {

Tensor random_tensor(std::vector<int64_t> shape, uint64_t seed, double size = 1) {
  const Tensor x = torch::empty(shape);
  Random random(seed);
  for (float& value : flat(x)) value = static_cast<float>(size * random.normal());
  return x;
}

// A weight with room for its gradient.
struct TestWeight {
  explicit TestWeight(const Tensor& x) : value(x), gradient(torch::zeros_like(x)) {}
  Tensor value, gradient;
  WeightMatrix matrix() const { return {view(value), view(gradient)}; }
  WeightVector vector() const { return {flat(value), flat(gradient)}; }
};

using Inputs = std::vector<Tensor>;
// The operation, on inputs; and the same in plain torch, on inputs and weights.
using Operation = std::function<Inputs(const Inputs&)>;
using Plain = std::function<Inputs(const Inputs&, const Inputs&)>;

// A number that depends on all outputs.
Tensor probe(const Inputs& outputs) {
  Tensor sum;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor weights = random_tensor(outputs[i].sizes().vec(), 100 + i).to(outputs[i].scalar_type());
    const Tensor part = (outputs[i] * weights).sum();
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

constexpr double kF32 = 2e-5, kBf16 = 2e-2;  // of the largest number

void expect_close(const Tensor& mine, const Tensor& expected, const char* what, size_t index, double tolerance) {
  ASSERT_TRUE(expected.defined()) << what << " " << index;
  const double size = expected.abs().max().item<double>();
  EXPECT_LT((mine.to(torch::kFloat64) - expected).abs().max().item<double>(), tolerance * size + 1e-6) << what << " " << index;
}

void check(const Inputs& inputs, const std::vector<TestWeight>& weights, const Operation& operation,
           const Plain& plain, double tolerance = kF32) {
  const auto leaves = [](const Inputs& from, torch::ScalarType type) {
    Inputs to;
    for (const Tensor& x : from) to.push_back(x.detach().clone().to(type).set_requires_grad(true));
    return to;
  };
  Inputs values;
  for (const TestWeight& weight : weights) values.push_back(weight.value);

  // Plain autograd
  const Inputs mine = leaves(inputs, torch::kFloat32), theirs = leaves(inputs, torch::kFloat64),
               their_weights = leaves(values, torch::kFloat64);
  const Inputs outputs = operation(mine), expected = plain(theirs, their_weights);
  for (size_t i = 0; i < outputs.size(); ++i) expect_close(outputs[i].detach(), expected[i].detach(), "output", i, tolerance);
  probe(outputs).backward();
  probe(expected).backward();
  for (size_t i = 0; i < inputs.size(); ++i) expect_close(mine[i].grad(), theirs[i].grad(), "input", i, tolerance);
  for (size_t i = 0; i < weights.size(); ++i) expect_close(weights[i].gradient, their_weights[i].grad(), "weight", i, tolerance);

  if (tolerance > kF32) return;

  // Finite differences along a random direction, all inputs and weights at once
  const double epsilon = 1e-3;
  double slope = 0;
  Inputs directions, moved;
  for (size_t i = 0; i < inputs.size() + weights.size(); ++i) {
    const bool is_input = i < inputs.size();
    const Tensor& value = is_input ? inputs[i] : values[i - inputs.size()];
    directions.push_back(random_tensor(value.sizes().vec(), 200 + i));
    const Tensor gradient = is_input ? mine[i].grad() : weights[i - inputs.size()].gradient;
    slope += (gradient * directions.back()).sum().item<double>();
  }
  const auto value_at = [&](double step) {
    const torch::NoGradGuard no_graph;
    Inputs shifted;
    for (size_t i = 0; i < inputs.size(); ++i) shifted.push_back(inputs[i] + step * directions[i]);
    for (size_t i = 0; i < weights.size(); ++i) weights[i].value.add_(directions[inputs.size() + i], step);
    const double value = probe(operation(shifted)).item<double>();
    for (size_t i = 0; i < weights.size(); ++i) weights[i].value.sub_(directions[inputs.size() + i], step);
    return value;
  };
  const double difference = (value_at(epsilon) - value_at(-epsilon)) / (2 * epsilon);
  EXPECT_NEAR(difference, slope, 0.02 * std::abs(slope) + 0.05);
}

TEST(Functions, RmsNorm) {
  const std::vector<TestWeight> weights{TestWeight(random_tensor({33}, 1))};
  check({random_tensor({7, 33}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{rms_norm(x[0], weights[0].vector(), 1e-5f)}; },
        [](const Inputs& x, const Inputs& w) { return Inputs{reference::rms_norm(x[0], w[0], 1e-5)}; });
}

TEST(Functions, Linear) {
  const std::vector<TestWeight> weights{TestWeight(random_tensor({9, 17}, 1))};
  check({random_tensor({11, 17}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{linear(x[0], weights[0].matrix())}; },
        [](const Inputs& x, const Inputs& w) { return Inputs{torch::linear(x[0], w[0])}; });
}

TEST(Functions, PermuteSharesWhatTheGateSendsToAnExpert) {
  const auto chosen = std::make_shared<moe::LayerPlan>();
  chosen->routing = {.num_experts = 4, .begin_T1 = {0, 2, 2, 3, 5}, .experts_N = {1, 3, 0, 2, 1}, .weights_N = std::vector<float>(5)};
  const std::vector<TestWeight> weights{TestWeight(random_tensor({4, 4}, 1).abs())};
  check({random_tensor({5}, 2)}, weights,
        [&](const Inputs& x) {
          const Permuted permuted = permute(x[0], chosen, weights[0].matrix());
          // By token and expert
          const moe::Routing& routing = permuted.plan->routing;
          std::vector<int64_t> at_N;
          for (int64_t t = 0; t < 4; ++t) {
            for (int32_t n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) at_N.push_back(t * 4 + routing.experts_N[n]);
          }
          return Inputs{torch::zeros({16}).index_put({torch::tensor(at_N)}, permuted.mix_N)};
        },
        [&](const Inputs& x, const Inputs& w) {
          const Tensor gate_TE = torch::zeros({16}, torch::kFloat64).index_put({torch::tensor({1, 3, 8, 14, 13})}, x[0]).reshape({4, 4});
          return Inputs{gate_TE.matmul(w[0]).flatten()};
        });
}

TEST(Functions, OfSharesThatAreZeroNoVisitsCome) {
  const auto chosen = std::make_shared<moe::LayerPlan>();
  chosen->routing = {.num_experts = 4, .begin_T1 = {0, 2, 2, 3}, .experts_N = {1, 3, 0}, .weights_N = {0.5f, 0.25f, 1}};
  TestWeight share_EE(torch::tensor({0.5f, 0.25f, 0.0f, 0.25f, 0.0f, 0.5f, 0.5f, 0.0f, 0.5f, 0.0f, 0.5f, 0.0f, 0.0f, 0.25f, 0.0f, 0.75f}).reshape({4, 4}));
  const Permuted permuted = permute(torch::tensor({0.5f, 0.25f, 1.0f}).set_requires_grad(true), chosen, share_EE.matrix());
  EXPECT_EQ(permuted.plan->routing.begin_T1, (std::vector<int32_t>{0, 3, 3, 6}));
  EXPECT_EQ(permuted.plan->routing.experts_N, (std::vector<int32_t>{1, 2, 3, 0, 1, 3}));
  EXPECT_EQ(permuted.plan->routing.weights_N, (std::vector<float>{0.25f + 0.0625f, 0.25f, 0.1875f, 0.5f, 0.25f, 0.25f}));
  permuted.mix_N.sum().backward();
  EXPECT_EQ(share_EE.gradient[3][2].item<float>(), 0);  // which is zero and stays so
  EXPECT_EQ(share_EE.gradient[3][3].item<float>(), 0.25f);
}

TEST(Functions, PermutedByTheIdentityVisitsAreWhatTheyWere) {
  const auto chosen = std::make_shared<moe::LayerPlan>();
  chosen->routing = {.num_experts = 3, .begin_T1 = {0, 2, 3}, .experts_N = {2, 0, 1}, .weights_N = {0.75f, 0.25f, 1}};
  const TestWeight identity(torch::eye(3));
  const Permuted permuted = permute(torch::tensor({0.75f, 0.25f, 1.0f}), chosen, identity.matrix());
  EXPECT_EQ(permuted.plan->routing.experts_N, chosen->routing.experts_N);
  EXPECT_EQ(permuted.plan->routing.weights_N, chosen->routing.weights_N);
  EXPECT_EQ(permuted.plan->dispatch.row_of_visit_N, moe::plan_dispatch(chosen->routing).row_of_visit_N);
}

TEST(Functions, AddLinear) {
  const std::vector<TestWeight> weights{TestWeight(random_tensor({9, 17}, 1))};
  check({random_tensor({11, 9}, 3), random_tensor({11, 17}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{add_linear(x[0], x[1], weights[0].matrix())}; },
        [](const Inputs& x, const Inputs& w) { return Inputs{x[0] + torch::linear(x[1], w[0])}; });
}

TEST(Functions, SiluMul) {
  check({random_tensor({5, 26}, 1, 3)}, {}, [](const Inputs& x) { return Inputs{silu_mul(x[0])}; },
        [](const Inputs& x, const Inputs&) {
          return Inputs{torch::silu(x[0].slice(1, 0, 13)) * x[0].slice(1, 13)};
        });
}

TEST(Functions, Embed) {
  TestWeight table(random_tensor({6, 5}, 1));
  const std::vector<int32_t> ids{3, 1, 3, 5};
  const Tensor anchor = torch::zeros({1}, torch::requires_grad());
  const Tensor plain_table = table.value.to(torch::kFloat64).clone().set_requires_grad(true);
  const Tensor out = embed(anchor, table.matrix(), ids);
  const Tensor plain = torch::embedding(plain_table, torch::tensor({3, 1, 3, 5}));
  probe({out}).backward();
  probe({plain}).backward();
  expect_close(out.detach(), plain.detach(), "output", 0, kF32);
  expect_close(table.gradient, plain_table.grad(), "weight", 0, kF32);
}

void check_attention(spec::QkNorm qk_norm, GemmType type = GemmType::F32) {
  const spec::AttentionSpec spec{.num_heads = 4, .num_kv_heads = 2, .head_dim = 6, .qk_norm = qk_norm};
  const std::vector<Segment> segments{{0, 3}, {3, 75}, {78, 1}, {79, 12}};
  const RotaryTable rotary = rotary_table(spec, 75);
  const Attention attention(spec, 1e-5f, rotary, type);
  const bool whole = qk_norm == spec::QkNorm::Whole;
  std::vector<TestWeight> weights;
  if (qk_norm != spec::QkNorm::None) {
    weights.emplace_back(random_tensor({whole ? 24 : 6}, 1));
    weights.emplace_back(random_tensor({whole ? 12 : 6}, 2));
  }
  HeadNorms norms;
  if (!weights.empty()) norms = {weights[0].vector(), weights[1].vector()};
  check({random_tensor({91, 48}, 3)}, weights,
        [&](const Inputs& x) { return Inputs{attend(attention, x[0], norms, segments)}; },
        [&](const Inputs& x, const Inputs& w) {
          return Inputs{reference::attend(spec, 1e-5, x[0].slice(1, 0, 24), x[0].slice(1, 24, 36), x[0].slice(1, 36),
                                          w.empty() ? Tensor() : w[0], w.empty() ? Tensor() : w[1], segments)};
        },
        type == GemmType::F32 ? kF32 : kBf16);
}
TEST(Functions, AttentionInBf16) { check_attention(spec::QkNorm::None, GemmType::Bf16); }
TEST(Functions, Attention) { check_attention(spec::QkNorm::None); }
TEST(Functions, AttentionWithANormOfEachHead) { check_attention(spec::QkNorm::PerHead); }
TEST(Functions, AttentionWithANormOfAllHeads) { check_attention(spec::QkNorm::Whole); }

// Mixing weights by visit from a [T, C] mix, in the order of the routing.
template <class List>  // moe::Routing or its visits to experts that cost nothing
Tensor by_visit(const Tensor& mix_TC, const List& list) {
  std::vector<Tensor> visits;
  for (size_t t = 0; t + 1 < list.begin_T1.size(); ++t) {
    for (int n = list.begin_T1[t]; n < list.begin_T1[t + 1]; ++n) visits.push_back(mix_TC[static_cast<int64_t>(t)][list.experts_N[n]]);
  }
  return visits.empty() ? torch::empty({0}, torch::kFloat64) : torch::stack(visits);
}

// Logits of 5 experts so far apart that a small step doesn't change the choice: it has no derivative.
Tensor distinct_logits(int64_t tokens) {
  const Tensor logits = random_tensor({tokens, 5}, 5, 0.02);
  Random random(6);
  for (int64_t t = 0; t < tokens; ++t) {
    float levels[] = {-1.6f, -0.8f, 0.0f, 0.8f, 1.6f};
    for (size_t i = 5; i > 1; --i) std::swap(levels[i - 1], levels[random.below(i)]);
    for (int64_t e = 0; e < 5; ++e) view(logits).row(t)[e] += levels[e];
  }
  return logits;
}

// The same for experts that choose among tokens: every score is well apart from every other.
Tensor logits_distinct_by_expert(int64_t tokens) {
  const Tensor logits = torch::empty({tokens, 5});
  Random random(7);
  for (int64_t e = 0; e < 5; ++e) {
    std::vector<int64_t> rank(static_cast<size_t>(tokens));
    std::iota(rank.begin(), rank.end(), int64_t{0});
    for (size_t i = rank.size(); i > 1; --i) std::swap(rank[i - 1], rank[random.below(i)]);
    for (int64_t t = 0; t < tokens; ++t) view(logits).row(t)[e] = 0.05f * static_cast<float>(5 * (rank[static_cast<size_t>(t)] - tokens / 2) + e);
  }
  return logits;
}

void check_router(const spec::RouterRule& rule) {
  std::vector<float> bias(5, 0.0f);
  bias[1] = 0.25f;
  const bool has_free = rule.zero_cost_experts() > rule.null_experts;
  const bool experts_choose = rule.select == spec::Select::ExpertChoice;
  check({experts_choose ? logits_distinct_by_expert(24) : distinct_logits(300)}, {},
        [&](const Inputs& x) {
          const Routed routed = route(rule, x[0], bias, {.balancing = {.with_entropy = true}, .choosing = {.in_training = true}});
          Inputs outputs{routed.mix_N, routed.balance_loss, routed.z_loss, routed.entropy_loss};
          if (has_free) outputs.push_back(routed.zero_cost_mix_M);
          return outputs;
        },
        [&](const Inputs& x, const Inputs&) {
          const reference::RouterTerms terms = reference::route(rule, x[0], bias);
          const moe::Routing routing = reference::chosen(rule, reference::scored(rule, x[0]), bias, true);
          Inputs outputs{by_visit(terms.mix_TC, routing), terms.balance, terms.z, terms.entropy};
          if (has_free) outputs.push_back(by_visit(terms.mix_TC, routing.zero_cost));
          return outputs;
        });
}
TEST(Functions, RouterWithSoftmax) { check_router({.num_experts = 5, .experts_per_token = 2}); }
TEST(Functions, RouterWithSoftmaxAndWeightsAsTheyAre) {
  check_router({.num_experts = 5, .experts_per_token = 3, .renormalise = false, .scale = 2.0f});
}
TEST(Functions, RouterWithSigmoid) {
  check_router({.num_experts = 5, .experts_per_token = 2, .score = spec::Score::Sigmoid, .scale = 1.5f});
}
TEST(Functions, RouterWithSigmoidAndWeightsAsTheyAre) {
  check_router({.num_experts = 5, .experts_per_token = 2, .score = spec::Score::Sigmoid, .renormalise = false});
}
TEST(Functions, RouterWithLogitsAsScores) {
  check_router({.num_experts = 5, .experts_per_token = 2, .score = spec::Score::Logits, .renormalise = false});
}
TEST(Functions, RouterWithTemperatureAndActivations) {
  using enum spec::LogitActivation;
  for (const auto activation : {None, Tanh, Sigmoid, Silu}) {
    check_router({.num_experts = 5, .experts_per_token = 2, .logit_activation = activation, .temperature = 0.6f, .renormalise = false});
    check_router({.num_experts = 5, .experts_per_token = 2, .logit_activation = activation, .score = spec::Score::Sigmoid});
  }
}
TEST(Functions, RouterWithTopP) {
  for (const bool renormalise : {false, true}) {
    check_router({.num_experts = 5, .experts_per_token = 5, .select = spec::Select::TopP, .top_p = 0.7f, .renormalise = renormalise});
  }
}
TEST(Functions, RouterWithThreshold) {
  check_router({.num_experts = 5, .experts_per_token = 4, .score = spec::Score::Sigmoid, .select = spec::Select::Threshold, .threshold = 0.6f});
}
TEST(Functions, RouterByExpertChoice) {
  check_router({.num_experts = 5, .experts_per_token = 2, .score = spec::Score::Sigmoid, .select = spec::Select::ExpertChoice,
                .has_selection_bias = true, .renormalise = false});
}
TEST(Functions, RouterByTsallisEntropy) {
  for (const float limit : {0.0f, 1.0f}) {
    check_router({.num_experts = 5, .experts_per_token = 1, .select = spec::Select::Tsallis, .top_p = 0.7f, .tsallis_q = 1.3f, .soft_entropy = limit});
  }
}
TEST(Functions, RouterWithNullExperts) {
  check_router({.num_experts = 2, .experts_per_token = 3, .null_experts = 3, .scale = 1.2f});
}
TEST(Functions, RouterWithEveryKindOfExpertThatCostsNothing) {
  for (const bool renormalise : {false, true}) {
    check_router({.num_experts = 1, .experts_per_token = 3, .null_experts = 1, .zero_experts = 1, .copy_experts = 1,
                  .constant_experts = 1, .renormalise = renormalise});
  }
}

TEST(Functions, ExpertsThatCostNothing) {
  const spec::RouterRule rule{.num_experts = 2, .experts_per_token = 4, .null_experts = 1, .zero_experts = 1, .copy_experts = 2, .constant_experts = 3};
  const int64_t tokens = 70, width = 17;
  const Tensor logits = random_tensor({tokens, 9}, 1);
  const moe::Routing routing = moe::route(rule, flat(logits), {});
  const int64_t visits = static_cast<int64_t>(routing.zero_cost.experts_N.size());
  const std::vector<TestWeight> weights{TestWeight(random_tensor({6, width}, 2, 0.3)), TestWeight(random_tensor({3, width}, 3))};
  const ConstantWeights constants{weights[0].matrix(), weights[1].matrix()};
  check({random_tensor({tokens, width}, 4), random_tensor({tokens, width}, 5), random_tensor({visits}, 6)}, weights,
        [&](const Inputs& x) { return Inputs{add_zero_cost(x[0], x[1], x[2], rule, routing.zero_cost, constants)}; },
        [&](const Inputs& x, const Inputs& w) {
          std::vector<int64_t> at;
          for (int64_t t = 0; t < tokens; ++t) {
            for (int m = routing.zero_cost.begin_T1[t]; m < routing.zero_cost.begin_T1[t + 1]; ++m) at.push_back(9 * t + routing.zero_cost.experts_N[m]);
          }
          const Tensor mix = torch::zeros({tokens * 9}, torch::kFloat64).scatter(0, torch::tensor(at), x[2]).reshape({tokens, 9});
          return Inputs{x[0] + reference::zero_cost(rule, x[1], mix, w[0], w[1])};
        });
}

// Half of the tokens go to no expert, some to several.
TEST(Functions, ExpertsOfARaggedRouting) {
  const int64_t tokens = 90, num_experts = 3, width = 6, hidden = 8;
  const auto plan = std::make_shared<moe::LayerPlan>();
  moe::Routing& routing = plan->routing;
  routing.num_experts = 3;
  std::vector<int64_t> at;
  for (int t = 0; t < tokens; ++t) {
    for (int e = 0; t % 2 == 0 && e <= t % 3; ++e) routing.experts_N.push_back(e), at.push_back(num_experts * t + e);
    routing.begin_T1.push_back(routing.num_visits());
  }
  plan->dispatch = moe::plan_dispatch(routing);
  const std::vector<TestWeight> weights{TestWeight(random_tensor({num_experts, hidden, width}, 1)),
                                        TestWeight(random_tensor({num_experts, hidden, width}, 2)),
                                        TestWeight(random_tensor({num_experts, width, hidden}, 3))};
  const auto stack = [&](auto pick) {
    return ExpertStack<float>{3, 6, 8, flat(pick(weights[0])).data(), flat(pick(weights[1])).data(), flat(pick(weights[2])).data()};
  };
  const ExpertStack<float> value = stack([](const TestWeight& w) { return w.value; });
  const ExpertWeights expert_weights{{3, 6, 8, value.gate, value.up, value.down}, stack([](const TestWeight& w) { return w.gradient; })};
  check({random_tensor({tokens, width}, 4), random_tensor({tokens, width}, 5), random_tensor({static_cast<int64_t>(at.size())}, 6)}, weights,
        [&](const Inputs& x) { return Inputs{add_experts(x[0], x[1], x[2], plan, {feed_forward_experts({}, expert_weights)})}; },
        [&](const Inputs& x, const Inputs& w) {
          const Tensor mix = torch::zeros({tokens * num_experts}, torch::kFloat64).scatter(0, torch::tensor(at), x[2]);
          return Inputs{x[0] + reference::experts(x[1], mix.reshape({tokens, num_experts}), w[0], w[1], w[2])};
        });
}

// Against the same clusters in plain autograd; some visits were turned away. No finite differences: a token that moves may change its cluster.
TEST(Functions, ExpertsOfClusters) {
  const int64_t tokens = 90, width = 12, hidden = 8, experts = 3;
  const auto plan = std::make_shared<moe::LayerPlan>();
  moe::Routing& routing = plan->routing;
  routing.num_experts = 3;
  for (int t = 0; t < tokens; ++t) {
    for (int k = 0; k < 2; ++k) routing.experts_N.push_back((t / 3 + k) % 3), routing.weights_N.push_back(0.01f * static_cast<float>(t % 7 + k));
    routing.begin_T1.push_back(routing.num_visits());
  }
  plan->dispatch = moe::plan_dispatch(routing, 50);
  ASSERT_GT(plan->dispatch.num_dropped(), 0);
  const std::vector<TestWeight> weights{TestWeight(random_tensor({experts, hidden, width}, 1)), TestWeight(random_tensor({experts, hidden, width}, 2)),
                                        TestWeight(random_tensor({experts, width, hidden}, 3))};
  const auto stack = [&](auto pick) {
    return ExpertStack<float>{3, 12, 8, flat(pick(weights[0])).data(), flat(pick(weights[1])).data(), flat(pick(weights[2])).data()};
  };
  const ExpertStack<float> value = stack([](const TestWeight& w) { return w.value; });
  const ExpertWeights expert_weights{{3, 12, 8, value.gate, value.up, value.down}, stack([](const TestWeight& w) { return w.gradient; })};
  const Tensor x_TD = random_tensor({tokens, width}, 5);
  const Matrix<float> frames = draw_frames(12, 9);
  const RunExperts run = [&](const Tensor& sum, const Tensor& x, const Permuted& visits) {
    return add_experts(sum, x, visits.mix_N, visits.plan, {feed_forward_experts({}, expert_weights)});
  };
  for (const bool residual : {true, false}) {
    for (const double share : {0.2, 1.0}) {
      for (const TestWeight& weight : weights) weight.gradient.zero_();
      const TokenClusters clusters = cluster_tokens(*plan, hash_tokens(view(x_TD), frames.view()), share);
      check({random_tensor({tokens, width}, 4), x_TD, random_tensor({2 * tokens}, 6)}, weights,
            [&](const Inputs& x) {
              return Inputs{add_experts_of_clusters(x[0], x[1], x[2], plan, run, {share, residual}, frames.view())};
            },
            [&](const Inputs& x, const Inputs& w) {
              Tensor out = x[0];
              for (size_t c = 0; c < clusters.size_C.size(); ++c) {
                std::vector<int64_t> visits;
                for (int64_t n = 0; n < 2 * tokens; ++n) {
                  if (clusters.cluster_of_visit_N[static_cast<size_t>(n)] == static_cast<int32_t>(c)) visits.push_back(n);
                }
                const Tensor visit = torch::tensor(visits), token = visit.floor_divide(2), members = x[1].index_select(0, token), mean = members.mean(0, true);
                const int64_t e = clusters.plan->routing.experts_N[c];
                const Tensor y = reference::swiglu(mean, w[0][e], w[1][e], w[2][e]) + (residual ? members - mean : torch::zeros_like(members));
                out = out.index_add(0, token, x[2].index_select(0, visit).unsqueeze(1) * y);
              }
              return Inputs{out};
            },
            1.01 * kF32);
    }
  }
}

// Tokens with many experts, one and none: each as its own list says.
TEST(Functions, RouterWithRoundedTokensAndItsExperts) {
  const spec::RouterRule rule{.num_experts = 5, .experts_per_token = 2};
  const int64_t tokens = 90, width = 6, hidden = 7;
  const std::vector<TestWeight> weights{TestWeight(random_tensor({5, hidden, width}, 1)), TestWeight(random_tensor({5, hidden, width}, 2)),
                                        TestWeight(random_tensor({5, width, hidden}, 3))};
  const auto stack = [&](auto pick) {
    return ExpertStack<float>{5, 6, 7, flat(pick(weights[0])).data(), flat(pick(weights[1])).data(), flat(pick(weights[2])).data()};
  };
  const ExpertStack<float> value = stack([](const TestWeight& w) { return w.value; });
  const ExpertWeights experts{{5, 6, 7, value.gate, value.up, value.down}, stack([](const TestWeight& w) { return w.gradient; })};
  const Tensor logits = distinct_logits(tokens);
  const Routed decided = route(rule, logits, {}, {.round_tokens = 16});
  const moe::Routing& routing = decided.saved->plan->routing;
  const Tensor visited = torch::zeros({tokens, 5}, torch::kFloat64);
  std::set<int> lengths;
  for (int t = 0; t < tokens; ++t) {
    lengths.insert(routing.begin_T1[t + 1] - routing.begin_T1[t]);
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) visited[t][routing.experts_N[n]] = 1.0;
  }
  ASSERT_GT(lengths.size(), 2u);  // the list is ragged
  check({logits, random_tensor({tokens, width}, 4)}, weights,
        [&](const Inputs& x) {
          const Routed routed = route(rule, x[0], {}, {.round_tokens = 16});
          return Inputs{add_experts(x[1], x[1], routed.mix_N, routed.saved->plan, {feed_forward_experts({}, experts)}), routed.z_loss};
        },
        [&](const Inputs& x, const Inputs& w) {
          const Tensor chosen = torch::softmax(x[0], -1) * visited;
          const Tensor mix = chosen / chosen.sum(-1, true).clamp_min(1e-30);
          return Inputs{x[1] + reference::experts(x[1], mix, w[0], w[1], w[2]), torch::logsumexp(x[0], -1).pow(2).mean()};
        });
}

class FunctionsExperts : public testing::TestWithParam<Mode> {};

TEST_P(FunctionsExperts, ForwardAndAllGradients) {
  // More rows at one expert and more hidden units than are worked on at once; an odd number of rows; one expert that nobody visits.
  const int64_t tokens = 1101, num_experts = 4, width = 10, hidden = 135, per_token = 2;
  const auto plan = std::make_shared<moe::LayerPlan>();
  moe::Routing& routing = plan->routing;
  routing.num_experts = 4;
  for (int t = 0; t < tokens; ++t) {
    routing.experts_N.push_back(0);
    routing.experts_N.push_back(t % 3 == 0 ? 1 : 3);
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
  }
  plan->dispatch = moe::plan_dispatch(routing);
  const std::vector<TestWeight> weights{TestWeight(random_tensor({num_experts, hidden, width}, 1)),
                                        TestWeight(random_tensor({num_experts, hidden, width}, 2)),
                                        TestWeight(random_tensor({num_experts, width, hidden}, 3))};
  const auto stack = [&](auto pick) {
    return ExpertStack<float>{4, 10, 135, flat(pick(weights[0])).data(), flat(pick(weights[1])).data(),
                              flat(pick(weights[2])).data()};
  };
  const ExpertStack<float> value = stack([](const TestWeight& w) { return w.value; });
  const ExpertWeights expert_weights{{4, 10, 135, value.gate, value.up, value.down},
                                     stack([](const TestWeight& w) { return w.gradient; })};
  check({random_tensor({tokens, width}, 4), random_tensor({tokens, width}, 5), random_tensor({tokens * per_token}, 6)},
        weights,
        [&](const Inputs& x) { return Inputs{add_experts(x[0], x[1], x[2], plan, {feed_forward_experts(GetParam(), expert_weights)})}; },
        [&](const Inputs& x, const Inputs& w) {
          std::vector<int64_t> at(routing.experts_N.begin(), routing.experts_N.end());
          const Tensor index = torch::tensor(at).reshape({tokens, per_token});
          const Tensor mix = torch::zeros({tokens, num_experts}, torch::kFloat64)
                                 .scatter(1, index, x[2].reshape({tokens, per_token}));
          return Inputs{x[0] + reference::experts(x[1], mix, w[0], w[1], w[2])};
        },
        GetParam().type == GemmType::F32 ? kF32 : kBf16);
}

INSTANTIATE_TEST_SUITE_P(Modes, FunctionsExperts,
                         testing::Values(Mode{GemmType::F32, Keep::Products}, Mode{GemmType::F32, Keep::Inputs},
                                         Mode{GemmType::Bf16, Keep::Products}, Mode{GemmType::Bf16, Keep::Inputs}));

// Two GRUs after an expert that is not theirs: documents of many lengths, more than advance together, tokens that turn away, a GRU
// that some document never visits.
struct GruCase {
  int64_t tokens = 0;
  std::vector<Segment> segments;
  moe::Routing routing{.num_experts = 3};
  std::shared_ptr<moe::LayerPlan> plan = std::make_shared<moe::LayerPlan>();

  GruCase(int documents, uint64_t seed) {
    Random random(seed);
    for (int d = 0; d < documents; ++d) {
      const int length = static_cast<int>(1 + random.below(7));
      segments.push_back({static_cast<int>(tokens), length});
      for (int t = 0; t < length; ++t) {
        for (int e = 0; e < 3; ++e) {
          if (random.below(3) > 0 && (e != 2 || d % 4 != 0)) routing.experts_N.push_back(e);
        }
        routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
      }
      tokens += length;
    }
    plan->dispatch = moe::plan_dispatch(routing);
  }
  // [T, 3] of weights of visits.
  Tensor mix_TC(const Tensor& mix_N) const {
    std::vector<int64_t> at;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) at.push_back(3 * t + routing.experts_N[n]);
    }
    return torch::zeros({3 * tokens}, torch::kFloat64).scatter(0, torch::tensor(at), mix_N).reshape({tokens, 3});
  }
};

// A kind of one expert.
class NothingFromTheFirst : public ExpertsOfKind {
 public:
  void forward(const moe::DispatchPlan& plan, MatrixView<const float>, MatrixView<float> y_ND) override { clear(plan, y_ND); }
  void backward(const moe::DispatchPlan& plan, std::span<const float>, MatrixView<const float>, MatrixView<const float>,
                MatrixView<float> dx_ND, std::span<float>) override {
    clear(plan, dx_ND);
  }
  size_t kept_bytes() const override { return 0; }

 private:
  static void clear(const moe::DispatchPlan& plan, MatrixView<float> rows_ND) {
    for (int row = 0; row < plan.rows_of(0); ++row) std::ranges::fill(rows_ND.row(row), 0.0f);
  }
};

TEST(Functions, GruExperts) {
  const int64_t width = 5, hidden = 6;
  const GruCase c(70, 3);
  const std::vector<TestWeight> weights{TestWeight(random_tensor({2, 3 * hidden, width}, 1, 0.5)),
                                        TestWeight(random_tensor({2, 3 * hidden, hidden}, 2, 0.5)),
                                        TestWeight(random_tensor({2, width, hidden}, 3)), TestWeight(random_tensor({2, 3 * hidden}, 4, 0.3)),
                                        TestWeight(random_tensor({2, 3 * hidden}, 5, 0.3))};
  const auto at = [&](size_t i, auto part) { return flat(weights[i].*part).data(); };
  const auto stack = [&](auto part) {
    return GruStack<float>{2, width, hidden, at(0, part), at(1, part), at(2, part), at(3, part), at(4, part)};
  };
  const auto [n, d, g, input, state, output, input_bias, state_bias] = stack(&TestWeight::value);
  const GruStack<const float> value{n, d, g, input, state, output, input_bias, state_bias};
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    for (const TestWeight& w : weights) w.gradient.zero_();
    check({random_tensor({c.tokens, width}, 6), random_tensor({c.tokens, width}, 7), random_tensor({c.routing.num_visits()}, 8)}, weights,
          [&](const Inputs& x) {
            const auto grus = gru_experts(type, 1, value, stack(&TestWeight::gradient), c.segments);
            return Inputs{add_experts(x[0], x[1], x[2], c.plan, {std::make_shared<NothingFromTheFirst>(), grus})};
          },
          [&](const Inputs& x, const Inputs& w) {
            return Inputs{x[0] + reference::gru_experts(x[1], c.mix_TC(x[2]), 1, c.routing, c.segments, {w[0], w[1], w[2], w[3], w[4]})};
          },
          type == GemmType::F32 ? kF32 : kBf16);
  }
}

// What the fast experts are held to is itself held to finite differences, element by element, in double precision.
void expect_gradients_of_finite_differences(const Inputs& inputs, const std::function<Tensor()>& value) {
  value().backward();
  const torch::NoGradGuard no_graph;
  const double epsilon = 1e-6;
  for (const Tensor& x : inputs) {
    const Tensor numbers = x.view(-1), gradients = x.grad().reshape(-1);
    for (int64_t i = 0; i < numbers.numel(); ++i) {
      const auto value_at = [&](double step) {
        numbers[i].add_(step);
        const double result = value().item<double>();
        numbers[i].sub_(step);
        return result;
      };
      const double difference = (value_at(epsilon) - value_at(-epsilon)) / (2 * epsilon);
      EXPECT_NEAR(gradients[i].item<double>(), difference, 1e-7 * (1 + std::abs(difference)));
    }
  }
}

TEST(Functions, ThePlainExpertsHaveTheGradientsOfFiniteDifferences) {
  const auto leaf = [](std::vector<int64_t> shape, uint64_t seed) {
    return random_tensor(std::move(shape), seed).to(torch::kFloat64).set_requires_grad(true);
  };
  const Inputs inputs{leaf({4, 3}, 1), leaf({4, 2}, 2), leaf({2, 5, 3}, 3), leaf({2, 5, 3}, 4), leaf({2, 3, 5}, 5)};
  expect_gradients_of_finite_differences(
      inputs, [&] { return probe({reference::experts(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])}); });
}

TEST(Functions, ThePlainGrusHaveTheGradientsOfFiniteDifferences) {
  const auto leaf = [](std::vector<int64_t> shape, uint64_t seed) {
    return random_tensor(std::move(shape), seed).to(torch::kFloat64).set_requires_grad(true);
  };
  const GruCase c(3, 5);
  const Inputs in{leaf({c.tokens, 3}, 1), leaf({c.routing.num_visits()}, 2), leaf({2, 12, 3}, 3), leaf({2, 12, 4}, 4), leaf({2, 3, 4}, 5),
                  leaf({2, 12}, 6), leaf({2, 12}, 7)};
  expect_gradients_of_finite_differences(in, [&] {
    return probe({reference::gru_experts(in[0], c.mix_TC(in[1]), 1, c.routing, c.segments, {in[2], in[3], in[4], in[5], in[6]})});
  });
}

TEST(Functions, ExpertLinear) {
  // Two visits a token; one expert that nobody visits.
  moe::Routing routing{.num_experts = 4};
  for (int t = 0; t < 9; ++t) {
    routing.experts_N.insert(routing.experts_N.end(), {t % 2 == 0 ? 3 : 1, t % 3 == 0 ? 0 : 3});
    routing.begin_T1.push_back(static_cast<int32_t>(routing.experts_N.size()));
  }
  const auto plan = std::make_shared<const moe::DispatchPlan>(moe::plan_dispatch(routing));
  const std::vector<TestWeight> weights{TestWeight(random_tensor({4, 7, 5}, 1))};
  check({random_tensor({18, 5}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{expert_linear(x[0], plan, weights[0].matrix())}; },
        [&](const Inputs& x, const Inputs& w) {
          std::vector<Tensor> rows;
          for (int64_t n = 0; n < 18; ++n) rows.push_back(torch::linear(x[0][n], w[0][routing.experts_N[static_cast<size_t>(n)]]));
          return Inputs{torch::stack(rows)};
        });
}

TEST(Functions, LinearInBf16) {
  const std::vector<TestWeight> weights{TestWeight(random_tensor({9, 17}, 1))};
  check({random_tensor({11, 17}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{linear(x[0], weights[0].matrix(), GemmType::Bf16)}; },
        [](const Inputs& x, const Inputs& w) { return Inputs{torch::linear(x[0], w[0])}; }, kBf16);
}

TEST(Functions, MeanCrossEntropy) {
  const std::vector<TestWeight> weights{TestWeight(random_tensor({13, 6}, 1))};
  const int64_t tokens = 700;  // more than one chunk
  Random random(9);
  std::vector<int32_t> targets;
  for (int64_t t = 0; t < tokens; ++t) targets.push_back(static_cast<int32_t>(random.below(14)) - 1);
  check({random_tensor({tokens, 6}, 2)}, weights,
        [&](const Inputs& x) { return Inputs{mean_cross_entropy(x[0], weights[0].matrix(), targets)}; },
        [&](const Inputs& x, const Inputs& w) {
          const Tensor ids = torch::tensor(std::vector<int64_t>(targets.begin(), targets.end()));
          return Inputs{torch::nll_loss_nd(torch::log_softmax(torch::linear(x[0], w[0]), -1), ids, {},
                                           at::Reduction::Mean, -1)};
        });
}

TEST(Functions, WithoutAGraphNothingIsRecorded) {
  const torch::NoGradGuard no_graph;
  const TestWeight weight(random_tensor({3, 3}, 1));
  EXPECT_FALSE(linear(random_tensor({2, 3}, 2).set_requires_grad(true), weight.matrix()).requires_grad());
}

}  // namespace
}  // namespace moiety::train
