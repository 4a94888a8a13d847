// Steps in one pass, in several, in pieces: the same losses, gradients and visits. Capacity and plans that are kept.
#include "train/micro_batch.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "train/optimizer.h"
#include "train/parallel.h"
#include "train/reference_model.h"
#include "train/routing_figures.h"
#include "train/feed_forward_experts.h"
#include "train/spawn.h"

namespace moiety::train {
namespace {

constexpr size_t kSequence = 24;

spec::ModelSpec small_spec() {
  spec::ModelSpec s{.family = "moiety", .num_layers = 3, .width = 24, .vocab_size = 50, .max_positions = 64};
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  s.moe = {.router = {.num_experts = 6, .experts_per_token = 2}, .expert_hidden = 20};
  s.dense_hidden = 28;
  s.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  s.eos_tokens = {0};
  return s;
}

Batch random_batch(size_t sequences, bool uneven_targets) {
  Random random(7);
  Batch batch{.sequence = kSequence};
  for (size_t s = 0; s < sequences; ++s) {
    const int begin = batch.num_tokens();
    batch.segments.push_back({begin, 10, 0});
    batch.segments.push_back({begin + 10, kSequence - 10, 1});
    for (size_t i = 0; i < kSequence; ++i) {
      batch.tokens_T.push_back(static_cast<int32_t>(random.below(50)));
      batch.targets_T.push_back(uneven_targets && random.below(4) < s ? -1 : static_cast<int32_t>(random.below(50)));
    }
  }
  return batch;
}

struct TestModel {
  explicit TestModel(const spec::ModelSpec& model_spec = small_spec()) : spec(model_spec), weights(spec), model(spec, weights) {
    weights.initialise(spec, 3);
  }
  std::vector<float> take_gradients() {
    std::vector<float> taken(weights.gradients().begin(), weights.gradients().end());
    std::ranges::fill(weights.gradients(), 0.0f);
    return taken;
  }
  spec::ModelSpec spec;
  Weights weights;
  Transformer model;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  return largest;
}
double largest(const std::vector<float>& a) { return largest_difference(a, std::vector<float>(a.size(), 0.0f)); }

Json visits_of(const std::vector<TrainedPass>& passes) {
  RoutingFigures figures({6, 6});
  for (const TrainedPass& pass : passes) figures.add(pass.routes, false);
  return figures.visits();
}

const LossWeights kWeights{.balance = 0.7f, .z = 0.1f};

class InPieces : public testing::TestWithParam<BalanceScope> {};

// Uneven targets, visits of an earlier pass, every scope: and nothing is counted twice.
TEST_P(InPieces, AMicroBatchThatOverflowsHasTheLossesGradientsAndVisitsOfAnUnboundedOne) {
  TestModel m;
  const Batch batch = random_batch(4, true);
  moe::Load earlier(2, 6);
  for (int e = 0; e < 6; ++e) earlier.add(0, e, 10 * e), earlier.add(1, e, 60 - 10 * e);
  PassOrder order{.scope = GetParam()};
  if (GetParam() == BalanceScope::Global) order.others = &earlier;

  const TrainedMicroBatch whole = train_micro_batch(m.model, batch, kWeights, order, 0.25f);
  ASSERT_EQ(whole.passes.size(), 1u);
  const std::vector<float> expected = m.take_gradients();
  order.budget = {.rows = 48, .sets = 2};  // a sequence of 24 tokens surely fits, four don't
  const TrainedMicroBatch pieces = train_micro_batch(m.model, batch, kWeights, order, 0.25f);
  ASSERT_EQ(pieces.passes.size(), 4u);
  const std::vector<float> found = m.take_gradients();

  EXPECT_NEAR(pieces.cross_entropy, whole.cross_entropy, 1e-6);
  EXPECT_NEAR(pieces.balance, whole.balance, 1e-6);
  EXPECT_NEAR(pieces.z, whole.z, 1e-6);
  EXPECT_LT(largest_difference(found, expected), 1e-6 * std::max(1.0, largest(expected)));
  EXPECT_GT(largest(expected), 1e-2);
  EXPECT_EQ(visits_of(pieces.passes), visits_of(whole.passes));
  for (const TrainedPass& pass : pieces.passes) {
    for (const auto& saved : pass.routes) EXPECT_LE(moe::most_received(saved->plan->dispatch, 2), 48);
  }
}
INSTANTIATE_TEST_SUITE_P(Scopes, InPieces, testing::Values(BalanceScope::Micro, BalanceScope::Sequence, BalanceScope::Global));

TEST(MicroBatch, WithinTheBudgetNothingChanges) {
  TestModel m;
  const Batch batch = random_batch(3, false);
  train_micro_batch(m.model, batch, kWeights, {}, 1);
  const std::vector<float> expected = m.take_gradients();
  const TrainedMicroBatch done = train_micro_batch(m.model, batch, kWeights, {.budget = {.rows = 3 * 24 * 2}}, 1);
  EXPECT_EQ(done.passes.size(), 1u);
  EXPECT_EQ(m.take_gradients(), expected);
}

TEST(MicroBatch, AnOverflowLeavesNothingBehind) {
  TestModel m;
  Routes routes;
  EXPECT_TRUE(m.model.forward(random_batch(3, false), kWeights, &routes, {.budget = {.rows = 100}}).overflowed);
  EXPECT_TRUE(routes.empty());
  EXPECT_EQ(largest(m.take_gradients()), 0);
}

TEST(MicroBatch, ABudgetThatOneSequenceMayExceedIsRefused) {
  TestModel m;
  EXPECT_THROW(train_micro_batch(m.model, random_batch(3, false), kWeights, {.budget = {.rows = 47}}, 1), Error);
}

TEST(MicroBatch, PiecesAreTheSequencesOfTheBatch) {
  const Batch batch = random_batch(5, true);
  const std::vector<Batch> pieces = pieces_of(batch, 2);
  ASSERT_EQ(pieces.size(), 3u);
  std::vector<int32_t> tokens, targets;
  int begin = 0;
  for (const Batch& piece : pieces) {
    tokens.insert(tokens.end(), piece.tokens_T.begin(), piece.tokens_T.end());
    targets.insert(targets.end(), piece.targets_T.begin(), piece.targets_T.end());
    for (const Segment& segment : piece.segments) {
      EXPECT_EQ(segment.begin, begin);
      begin = (begin + segment.length) % piece.num_tokens();
    }
  }
  EXPECT_EQ(tokens, batch.tokens_T);
  EXPECT_EQ(targets, batch.targets_T);
}

// The step in four passes: when all visits are known, losses and gradients are those of one pass over everything.
void expect_that_of_one_pass(const spec::ModelSpec& spec, float zero_cost) {
  TestModel m(spec);
  const Batch batch = random_batch(4, false);
  const Losses whole = m.model.forward(batch, kWeights, nullptr, {.scope = BalanceScope::Global, .zero_cost_balance = zero_cost});
  whole.total.backward();
  const std::vector<float> expected = m.take_gradients();

  std::vector<Batch> passes = pieces_of(batch, 1);
  std::vector<moe::Load> visits(4, moe::Load(2, spec.moe.router.num_choices()));
  for (size_t i = 0; i < 4; ++i) {
    const Routes routes = m.model.decide(passes[i], {});
    for (size_t j = 0; j < 4; ++j) {
      for (int layer = 0; j != i && layer < 2; ++layer) visits[j].add_choices(layer, routes[static_cast<size_t>(layer)]->plan->routing);
    }
  }
  double balance = 0;
  for (size_t i = 0; i < 4; ++i) {
    const PassOrder order{.scope = BalanceScope::Global, .others = &visits[i], .zero_cost_balance = zero_cost};
    balance += train_micro_batch(m.model, passes[i], kWeights, order, 0.25f).balance / 4;
  }
  EXPECT_NEAR(balance, whole.balance, 1e-6);
  EXPECT_LT(largest_difference(m.take_gradients(), expected), 1e-6 * std::max(1.0, largest(expected)));
}

TEST(GlobalBalance, OfFourPassesThatKnowAllVisitsIsThatOfOne) { expect_that_of_one_pass(small_spec(), 1); }

TEST(GlobalBalance, CountsWhoCostsNothing) {
  spec::ModelSpec spec = small_spec();
  spec.moe.router.null_experts = 2;
  spec.moe.router.zero_experts = 1;
  spec.moe.router.copy_experts = 1;
  spec.moe.router.experts_per_token = 4;
  expect_that_of_one_pass(spec, 1);
  expect_that_of_one_pass(spec, 0.25f);
}

// As the trainer does it: pass by pass with the visits so far. What a step reports is the loss of one pass over everything, and
// the last pass is held to the visits of the whole step.
TEST(GlobalBalance, GrowsPassByPassTowardsThatOfTheStep) {
  TestModel m;
  const Batch batch = random_batch(4, false);
  Routes all;
  const float whole = m.model.forward(batch, kWeights, &all, {.scope = BalanceScope::Global}).balance;
  RoutingFigures step({6, 6});
  Routes last;
  for (const Batch& pass : pieces_of(batch, 1)) {
    const TrainedMicroBatch done = train_micro_batch(m.model, pass, kWeights, {.scope = BalanceScope::Global, .others = &step.load()}, 0.25f);
    step.add(done.passes[0].routes, false);
    last = done.passes[0].routes;
  }
  EXPECT_NEAR(step.balance_loss(), whole, 1e-6);
  for (size_t layer = 0; layer < 2; ++layer) {
    for (size_t e = 0; e < 6; ++e) {
      // d(loss) / d(probability) = E f_e / T, of a pass with a quarter of the tokens
      EXPECT_NEAR(last[layer]->balance.slope_GE.row(0)[e], 4 * all[layer]->balance.slope_GE.row(0)[e], 1e-7);
    }
  }
}

// Decided once: whatever becomes of the router, a plan that is given stays.
TEST(LayerPlan, ThatHasBeenDecidedIsNeverDecidedAgain) {
  TestModel m;
  const Batch batch = random_batch(2, false);
  Plans plans;
  for (const auto& saved : m.model.decide(batch, {})) plans.push_back(saved->plan);
  for (const int layer : {0, 2}) {
    for (float& x : m.weights.matrix(spec::Role::Router, layer).value.flat()) x = -3 * x;
  }
  Routes routes, otherwise;
  m.model.forward(batch, {}, &routes, {.decided = &plans});
  m.model.forward(batch, {}, &otherwise, {});
  for (size_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(routes[layer]->plan, plans[layer]);
    EXPECT_NE(otherwise[layer]->plan->routing.experts_N, plans[layer]->routing.experts_N);
  }
}

TEST(Capacity, PlansAreTheSameOnAnyNumberOfThreads) {
  Matrix<float> logits_TE(1500, 8);
  Random random(5);
  for (float& x : logits_TE.flat()) x = static_cast<float>(random.below(4));  // ties
  const auto plan = [&](int threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    const RouterSaved saved = router_forward({.num_experts = 8, .experts_per_token = 3}, logits_TE.view(), {}, {.capacity = 0.9});
    omp_set_num_threads(before);
    return saved.plan;
  };
  const auto one = plan(1), three = plan(3);
  EXPECT_EQ(one->dispatch.row_of_visit_N, three->dispatch.row_of_visit_N);
  EXPECT_EQ(one->dispatch.begin_E1, three->dispatch.begin_E1);
  EXPECT_GT(one->dispatch.num_dropped(), 0);
}

// In plain torch: every expert on every token, the weights of those turned away nothing, the weights of the others as they were.
TEST(Capacity, ADroppedVisitGivesNothingAndGetsNoGradient) {
  constexpr int64_t kTokens = 60, kExperts = 4, kWidth = 6, kHidden = 5;
  const spec::RouterRule rule{.num_experts = kExperts, .experts_per_token = 2, .scale = 1.5f};
  torch::manual_seed(1);
  const auto options = torch::TensorOptions().dtype(torch::kFloat32);
  const Tensor x = torch::randn({kTokens, kWidth}, options).set_requires_grad(true);
  const Tensor logits = torch::randn({kTokens, kExperts}, options).set_requires_grad(true);
  const Tensor gate = torch::randn({kExperts, kHidden, kWidth}), up = torch::randn({kExperts, kHidden, kWidth}),
               down = torch::randn({kExperts, kWidth, kHidden}), probe = torch::randn({kTokens, kWidth});
  const Tensor dgate = torch::zeros_like(gate), dup = torch::zeros_like(up), ddown = torch::zeros_like(down);
  const auto stack = [&](const Tensor& g, const Tensor& u, const Tensor& d) {
    return ExpertStack<float>{kExperts, kWidth, kHidden, flat(g).data(), flat(u).data(), flat(d).data()};
  };
  const ExpertStack<float> value = stack(gate, up, down);
  const Routed routed = route(rule, logits, {}, {.capacity = 0.7});
  const moe::LayerPlan& plan = *routed.saved->plan;
  ASSERT_GT(plan.dispatch.num_dropped(), 10);
  const Tensor out = add_experts(x, x, routed.mix_N, routed.saved->plan,
                                 {feed_forward_experts({}, {{kExperts, kWidth, kHidden, value.gate, value.up, value.down}, stack(dgate, dup, ddown)})});
  (out * probe).sum().backward();

  const auto twin = [](const Tensor& t) { return t.detach().to(torch::kFloat64).clone().set_requires_grad(true); };
  const Tensor x2 = twin(x), logits2 = twin(logits), gate2 = twin(gate), up2 = twin(up), down2 = twin(down);
  const Tensor kept_TE = torch::zeros({kTokens, kExperts}, torch::kFloat64);
  for (int t = 0; t < kTokens; ++t) {
    for (int n = plan.routing.begin_T1[t]; n < plan.routing.begin_T1[t + 1]; ++n) {
      if (plan.dispatch.row_of_visit_N[n] != moe::kNoRow) kept_TE[t][plan.routing.experts_N[n]] = 1.0;
    }
  }
  const Tensor mix_TE = reference::route(rule, logits2, {}).mix_TC * kept_TE;
  const Tensor expected = x2 + reference::experts(x2, mix_TE, gate2, up2, down2);
  (expected * probe.to(torch::kFloat64)).sum().backward();

  const auto distance = [](const Tensor& a, const Tensor& b) {
    return (a.to(torch::kFloat64) - b).abs().max().item<double>() / (1e-3 + b.abs().max().item<double>());
  };
  EXPECT_LT(distance(out.detach(), expected.detach()), 1e-5);
  EXPECT_LT(distance(x.grad(), x2.grad()), 1e-5);
  EXPECT_LT(distance(logits.grad(), logits2.grad()), 1e-5);
  EXPECT_LT(distance(dgate, gate2.grad()), 1e-5);
  EXPECT_LT(distance(dup, up2.grad()), 1e-5);
  EXPECT_LT(distance(ddown, down2.grad()), 1e-5);
}

TEST(FrozenRouter, GetsNoGradientAndKeepsItsBits) {
  const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=1", "model.experts=4"});
  const spec::ModelSpec spec = model_spec(config, 50, 0);
  Weights weights(spec);
  weights.freeze(spec::Role::Router);
  weights.initialise(spec, 1);
  Optimizer optimizer(config.optimizer, weights);
  Transformer model(spec, weights);
  const std::vector<float> before(weights.values().begin(), weights.values().end());
  model.forward(random_batch(2, false), kWeights, nullptr, {.router_trained = false}).total.backward();
  for (const float d : weights.vector(spec::Role::Router, 0).gradient) EXPECT_EQ(d, 0);
  optimizer.step(0, 1e-2);
  size_t changed = 0;
  for (const Weights::Entry& entry : weights.entries()) {
    for (size_t i = entry.begin; i < entry.begin + entry.size; ++i) {
      if (entry.weight.role == spec::Role::Router) {
        ASSERT_EQ(weights.values()[i], before[i]);
      } else {
        changed += weights.values()[i] != before[i];
      }
    }
  }
  EXPECT_GT(changed, before.size() / 2);
}

TEST(Spawn, ExactCopiesAreTheOneExpertThatWasThere) {
  TestModel m;
  const Batch batch = random_batch(2, false);
  const float alone = m.model.forward(batch, {}, nullptr, {.first_expert_only = true}).cross_entropy;
  EXPECT_GT(std::abs(m.model.forward(batch, {}).cross_entropy - alone), 1e-4);
  spawn_experts(m.weights, 0, 1);
  EXPECT_NEAR(m.model.forward(batch, {}).cross_entropy, alone, 1e-5);
}

TEST(Spawn, OnlyTheFirstExpertAndNoRouterLearnBefore) {
  TestModel m;
  m.model.forward(random_batch(2, false), kWeights, nullptr, {.first_expert_only = true}).total.backward();
  for (const Weights::Entry& entry : m.weights.entries()) {
    if (!spec::is_expert(entry.weight.role) && entry.weight.role != spec::Role::Router) continue;
    const auto gradient = m.weights.gradients().subspan(entry.begin, entry.size);
    const size_t first = spec::is_expert(entry.weight.role) ? entry.size / 6 : 0;
    EXPECT_EQ(std::ranges::count(gradient.subspan(first), 0.0f), static_cast<ptrdiff_t>(entry.size - first)) << entry.name;
    EXPECT_EQ(first > 0, std::ranges::count(gradient.first(first), 0.0f) < static_cast<ptrdiff_t>(first)) << entry.name;
  }
}

TEST(Spawn, CopiesDifferByTheNoiseAndAreTheSameForTheSameSeed) {
  TestModel a, b, c;
  const std::vector<float> before(a.weights.values().begin(), a.weights.values().end());
  spawn_experts(a.weights, 0.1, 5);
  spawn_experts(b.weights, 0.1, 5);
  spawn_experts(c.weights, 0.1, 6);
  EXPECT_TRUE(std::ranges::equal(a.weights.values(), b.weights.values()));
  EXPECT_FALSE(std::ranges::equal(a.weights.values(), c.weights.values()));
  for (const Weights::Entry& entry : a.weights.entries()) {
    const auto now = a.weights.values().subspan(entry.begin, entry.size);
    const size_t kept = spec::is_expert(entry.weight.role) ? entry.size / 6 : entry.size;
    EXPECT_TRUE(std::equal(now.begin(), now.begin() + static_cast<ptrdiff_t>(kept), before.begin() + static_cast<ptrdiff_t>(entry.begin))) << entry.name;
    if (kept == entry.size) continue;
    for (size_t copy = 1; copy < 6; ++copy) {
      double change = 0, size = 0;
      for (size_t i = 0; i < kept; ++i) {
        const double difference = now[copy * kept + i] - now[i];
        change += difference * difference;
        size += double{now[i]} * now[i];
      }
      EXPECT_NEAR(std::sqrt(change / size), 0.1, 0.02) << entry.name;
    }
  }
}

}  // namespace
}  // namespace moiety::train
