// The whole model, held to a slow plain formulation of it: logits, loss and every weight's gradient.
#include "train/transformer.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "support/routers.h"
#include "base/system_memory.h"
#include "train/loops.h"
#include "train/optimizer.h"
#include "train/reference_model.h"

namespace moiety::train {
namespace {

spec::ModelSpec small_spec() {
  spec::ModelSpec s{.family = "moiety", .num_layers = 2, .width = 24, .vocab_size = 50, .max_positions = 64};
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .qk_norm = spec::QkNorm::PerHead};
  s.moe = {.router = {.num_experts = 6, .experts_per_token = 2}, .expert_hidden = 20};
  s.dense_hidden = 28;
  s.feed_forward.assign(2, spec::FeedForward::Moe);
  s.eos_tokens = {0};
  return s;
}

Batch random_batch(const spec::ModelSpec& spec, std::vector<int> lengths) {
  Random random(7);
  Batch batch;
  for (const int length : lengths) {
    batch.segments.push_back({batch.num_tokens(), length});
    for (int i = 0; i < length; ++i) {
      batch.tokens_T.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size))));
      batch.targets_T.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size))));
    }
  }
  batch.targets_T[3] = -1;
  return batch;
}

void randomise(Weights& weights, const spec::ModelSpec& spec) {
  weights.initialise(spec, 3);
  Random random(11);
  for (const Weights::Entry& entry : weights.entries()) {
    if (entry.is_matrix()) continue;  // norms and biases that differ from their neutral start
    for (float& x : weights.values().subspan(entry.begin, entry.size)) x += 0.2f * static_cast<float>(random.normal());
  }
}

double distance(const Tensor& a, const Tensor& b) {
  return (a.to(torch::kFloat64) - b).abs().max().item<double>() / (1e-3 + b.abs().max().item<double>());
}

void expect_same_as_reference(const spec::ModelSpec& spec, double tolerance = 2e-4) {
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  reference::Model plain(spec, weights);
  // Longer and shorter than a block of queries; a segment of one token.
  const Batch batch = random_batch(spec, {70, 1, 9, 40});

  const reference::Output expected = reference::forward(plain, batch, 0.5, 0.01, 0.1, true, 0.2);
  const reference::Output served = reference::forward(plain, batch, 0, 0, 0, false);
  EXPECT_LT(distance(model.logits(batch), served.logits.detach()), 1e-5);

  const Losses losses = model.forward(batch, {.balance = 0.5f, .z = 0.01f, .entropy = 0.1f, .spread = 0.2f});
  EXPECT_NEAR(losses.total.item<double>(), expected.loss.item<double>(), 1e-5);
  losses.total.backward();
  expected.loss.backward();
  for (const Weights::Entry& entry : weights.entries()) {
    if (entry.weight.role == spec::Role::SelectionBias) continue;  // steers the choice alone
    const Tensor mine = torch::from_blob(weights.gradients().data() + entry.begin, {static_cast<int64_t>(entry.size)});
    EXPECT_LT(distance(mine.reshape(entry.shape), plain.at(entry.name).grad()), tolerance) << entry.name;
  }
}

TEST(Transformer, IsThePlainModel) { expect_same_as_reference(small_spec()); }

TEST(Transformer, IsThePlainModelWithSigmoidScoresBiasAndSharedExperts) {
  spec::ModelSpec spec = small_spec();
  spec.moe.router.score = spec::Score::Sigmoid;
  spec.moe.router.has_selection_bias = true;
  spec.moe.router.scale = 1.5f;
  spec.moe.shared_hidden = 12;
  spec.moe.shared_gate = true;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithTiedEmbeddingsADenseLayerAndWholeNorms) {
  spec::ModelSpec spec = small_spec();
  spec.tied_embeddings = true;
  spec.feed_forward[0] = spec::FeedForward::Dense;
  spec.attention.qk_norm = spec::QkNorm::Whole;
  spec.moe.router.renormalise = false;
  spec.moe.shared_hidden = 8;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithStickBreakingAttention) {
  spec::ModelSpec spec = small_spec();
  spec.attention.weigh = spec::AttentionWeigh::StickBreaking;
  expect_same_as_reference(spec);
  spec.attention.experts = spec::AttentionExperts{5, 2};
  spec.attention.num_kv_heads = 1;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithBiasesAfterAttentionAndExperts) {
  spec::ModelSpec spec = small_spec();
  spec.attention.output_bias = spec.moe.output_bias = true;
  expect_same_as_reference(spec);
  spec.attention.experts = spec::AttentionExperts{6, 2};
  spec.moe.expert_width = 12;
  spec.moe.shared_hidden = 16;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithoutNormsOfQueriesAndOneExpertAToken) {
  spec::ModelSpec spec = small_spec();
  spec.attention.qk_norm = spec::QkNorm::None;
  spec.attention.num_kv_heads = 4;
  spec.moe.router.experts_per_token = 1;
  spec.moe.router.renormalise = false;
  expect_same_as_reference(spec);
}

class TransformerRouters : public testing::TestWithParam<test::RouterCase> {};

TEST_P(TransformerRouters, ArePlainOnesToo) {
  spec::ModelSpec spec = small_spec();
  GetParam().change(spec.moe.router);
  if (spec.moe.router.weigh == spec::Weigh::SparseMixer) GTEST_SKIP() << "drawn by chance: sparse_mixer_test.cc";
  spec::check(spec, "the test");
  expect_same_as_reference(spec);
}

INSTANTIATE_TEST_SUITE_P(Routers, TransformerRouters, testing::ValuesIn(test::kRouters),
                         [](const auto& test) { return test::name_of(test.param); });

// Every gate, with a dense layer between the sparse ones.
TEST(Transformer, IsThePlainModelWithEveryGate) {
  using spec::Gate;
  for (const Gate gate : {Gate::Cosine, Gate::Hash, Gate::Random, Gate::Recurrent, Gate::Tree, Gate::Ahead, Gate::Decoupled}) {
    SCOPED_TRACE(testing::Message() << "gate " << static_cast<int>(gate));
    spec::ModelSpec spec = small_spec();
    spec.num_layers = 4;
    spec.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
    spec.moe.router.gate = gate;
    spec.moe.router.gate_width = 10;
    spec.moe.router.gate_temperature = 0.3f;
    spec.moe.router.gate_learns_temperature = true;
    spec.moe.router.gate_step = 4;
    spec.moe.router.gate_seed = 3;
    spec::check(spec, "the test");
    expect_same_as_reference(spec);
  }
}

TEST(Transformer, WhatALayerChoosesDependsOnTheRecurrentStateBeforeIt) {
  spec::ModelSpec spec = small_spec();
  spec.moe.router.gate = spec::Gate::Recurrent;
  spec.moe.router.gate_width = 10;
  const Batch batch = random_batch(spec, {30});
  const auto second_layers_scores = [&](float bias) {
    Weights weights(spec);
    randomise(weights, spec);
    std::ranges::fill(weights.vector(spec::Role::ExpertDown, 0).value, 0.0f);  // so that the stream stays as it is
    for (float& x : weights.matrix(spec::Role::GateDown, 0).value.flat()) x += bias;
    Transformer model(spec, weights);
    Routes routes;
    model.logits(batch, &routes);
    const auto scores = routes[1]->scores_TC.view().row(3);
    return std::vector<float>(scores.begin(), scores.end());
  };
  EXPECT_NE(second_layers_scores(0), second_layers_scores(0.5f));
}

TEST(Transformer, TwoPassesByChanceLearnToAgree) {
  spec::ModelSpec spec = small_spec();
  spec.moe.router.gate = spec::Gate::Random;
  const Batch batch = random_batch(spec, {40, 24});
  const auto disagreement_after = [&](float weight) {
    Weights weights(spec);
    randomise(weights, spec);
    Transformer model(spec, weights);
    Batch drawn = batch;
    for (int step = 0; step < 60; ++step) {
      std::ranges::fill(weights.gradients(), 0.0f);
      drawn.draw = static_cast<uint64_t>(step + 1);
      model.forward(drawn, {.consistency = weight}).total.backward();
      for (size_t i = 0; i < weights.values().size(); ++i) weights.values()[i] -= 0.3f * weights.gradients()[i];
    }
    drawn.draw = 1000;
    return model.forward(drawn, {.consistency = 1}).consistency;
  };
  EXPECT_LT(disagreement_after(5), 0.7f * disagreement_after(1e-6f));
}

TEST(Transformer, IsThePlainModelWithLayersOfDifferentNumbersOfExperts) {
  spec::ModelSpec spec = small_spec();
  spec.num_layers = 4;
  spec.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
  spec.moe.experts_L = {2, 0, 4, 6};
  spec.moe.router.has_selection_bias = true;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithAResidualExpert) {
  spec::ModelSpec spec = small_spec();
  spec.moe.router.experts_per_token = 1;
  spec.moe.router.renormalise = false;
  spec.moe.shared_hidden = 20;
  spec.moe.shared_mix = true;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithChainsOfExperts) {
  spec::ModelSpec spec = small_spec();
  spec.moe.iterations = 3;
  spec.moe.router.has_selection_bias = true;
  spec.moe.shared_hidden = 12;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithNarrowExperts) {
  spec::ModelSpec spec = small_spec();
  spec.moe.expert_width = 6;
  expect_same_as_reference(spec);
  spec.moe.iterations = 2;
  spec.moe.shared_hidden = 12;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithTernaryExperts) {
  spec::ModelSpec spec = small_spec();
  spec.moe.ternary_experts = true;
  spec.moe.shared_hidden = 12;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithGruExperts) {
  spec::ModelSpec spec = small_spec();
  spec.moe.gru_experts = 2;
  spec.moe.gru_hidden = 7;
  spec.moe.router.experts_per_token = 1;
  spec.moe.router.renormalise = false;
  expect_same_as_reference(spec);
  spec.num_layers = 3;
  spec.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe};
  spec.moe.experts_L = {6, 0, 4};
  spec.moe.router.experts_per_token = 3;
  spec.moe.router.renormalise = true;
  spec.moe.gru_experts = 3;
  spec.moe.expert_width = 10;
  spec.moe.ternary_experts = true;
  spec.moe.shared_hidden = 12;
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithMomentum) {
  spec::ModelSpec spec = small_spec();
  spec.num_layers = 4;
  spec.feed_forward.assign(4, spec::FeedForward::Moe);
  spec.feed_forward[2] = spec::FeedForward::Dense;
  spec.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.7f, .step = 0.9f};
  expect_same_as_reference(spec);
  spec.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.7f, .square_decay = 0.9f, .step = 0.2f, .eps = 1e-3f};
  expect_same_as_reference(spec);
}

TEST(Transformer, IsThePlainModelWithAttentionExperts) {
  spec::ModelSpec spec = small_spec();
  spec.attention.num_heads = 8;
  spec.attention.experts = spec::AttentionExperts{5, 2};
  expect_same_as_reference(spec);
  spec.attention.num_kv_heads = 1;
  spec.attention.num_heads = 3;
  spec.attention.experts = spec::AttentionExperts{4, 3};
  spec.attention.qk_norm = spec::QkNorm::None;
  expect_same_as_reference(spec);
}

std::vector<float> logits_and_gradients(const spec::ModelSpec& spec) {
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  const Batch batch = random_batch(spec, {30, 5});
  const Tensor logits = model.logits(batch);
  std::vector<float> all(flat(logits).begin(), flat(logits).end());
  model.forward(batch, {.balance = 0.5f, .z = 0.01f}).total.backward();
  all.insert(all.end(), weights.gradients().begin(), weights.gradients().end());
  return all;
}

TEST(Transformer, WithoutMomentumAndInOneIterationAreThePlainBlockBitForBit) {
  const std::vector<float> plain = logits_and_gradients(small_spec());
  spec::ModelSpec spec = small_spec();
  spec.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0};
  spec.moe.iterations = 1;
  spec.moe.experts_L = {6, 6};
  EXPECT_EQ(logits_and_gradients(spec), plain);
  spec.moe.momentum.decay = 0.5f;
  EXPECT_NE(logits_and_gradients(spec), plain);
}

TEST(Transformer, GradientsOfTwoPassesAddUp) {
  const spec::ModelSpec spec = small_spec();
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  const Batch batch = random_batch(spec, {16, 16});
  model.forward(batch, {}).total.backward();
  const std::vector<float> once(weights.gradients().begin(), weights.gradients().end());
  model.forward(batch, {}).total.backward();
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(weights.gradients()[i], 2 * once[i], 1e-5);
}

spec::ModelSpec mixed_spec() {
  spec::ModelSpec spec = small_spec();
  spec.num_layers = 3;
  spec.feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
  spec.tied_embeddings = true;
  spec.moe.router.score = spec::Score::Sigmoid;
  spec.moe.router.has_selection_bias = true;
  spec.moe.shared_hidden = 12;
  spec.moe.shared_gate = true;
  return spec;
}

TEST(Transformer, LayersMadeAgainGiveTheSameBitsAndCountTheirLoadOnce) {
  for (const spec::ModelSpec& spec : {small_spec(), mixed_spec()}) {
    for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
      for (const int round_tokens : {0, 8}) {
        const Clustering clustering{.share = round_tokens == 0 ? 1 : 0.4};
        Weights kept(spec), again(spec);
        randomise(kept, spec);
        randomise(again, spec);
        Transformer keeps(spec, kept, {.type = type}), remakes(spec, again, {.type = type});
        const PassOrder order{.round_tokens = round_tokens, .clustering = clustering},
            remade{.recompute_layers = true, .round_tokens = round_tokens, .clustering = clustering};
        const Batch batch = random_batch(spec, {70, 1, 9, 40});
        for (int pass = 0; pass < 2; ++pass) {  // gradients of two passes add up
          Routes routes, remade_routes;
          const Losses expected = keeps.forward(batch, {.balance = 0.5f, .z = 0.01f, .entropy = 0.02f}, &routes, order);
          const Losses losses = remakes.forward(batch, {.balance = 0.5f, .z = 0.01f, .entropy = 0.02f}, &remade_routes, remade);
          EXPECT_EQ(losses.total.item<float>(), expected.total.item<float>());
          expected.total.backward();
          losses.total.backward();
          ASSERT_EQ(remade_routes.size(), static_cast<size_t>(spec.moe_layers()));
          for (size_t layer = 0; layer < routes.size(); ++layer) {
            EXPECT_EQ(remade_routes[layer]->plan->routing.experts_N, routes[layer]->plan->routing.experts_N);
            EXPECT_EQ(remade_routes[layer]->plan->routing.weights_N, routes[layer]->plan->routing.weights_N);
          }
        }
        EXPECT_TRUE(std::ranges::equal(again.gradients(), kept.gradients()));
      }
    }
  }
}

TEST(Transformer, LearnsTheSameBitsFromPackedWeights) {
  spec::ModelSpec tied = small_spec(), half = small_spec();
  tied.tied_embeddings = true;
  half.attention.num_kv_heads = 1;  // whose keys are no whole strip
  for (const spec::ModelSpec& spec : {small_spec(), mixed_spec(), tied, half}) {
    Weights plain(spec), packed(spec);
    packed.keep_packed(spec);
    randomise(plain, spec);
    randomise(packed, spec);
    for (const char* state : {"f32", "factored"}) {
      const TrainConfig::Optimizer settings{.clip = 0, .state = state};
      Optimizer plain_optimizer(settings, plain), packed_optimizer(settings, packed);
      Transformer from_plain(spec, plain, {.type = GemmType::Bf16}), from_packed(spec, packed, {.type = GemmType::Bf16});
      for (int step = 0; step < 3; ++step) {
        const Batch batch = random_batch(spec, {70, 1, 9, 40});
        const Losses expected = from_plain.forward(batch, {.balance = 0.5f}), found = from_packed.forward(batch, {.balance = 0.5f});
        EXPECT_EQ(found.total.item<float>(), expected.total.item<float>());
        expected.total.backward();
        found.total.backward();
        plain_optimizer.step(step, 1e-2);
        packed_optimizer.step(step, 1e-2);
        if (step == 1) {  // somebody else changes them
          for (Weights* const weights : {&plain, &packed}) {
            for (float& x : weights->values()) x *= 1.25f;
          }
        }
      }
      EXPECT_TRUE(std::ranges::equal(packed.values(), plain.values()));
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Bytes that a forward pass leaves allocated for the way back.
size_t bytes_kept(spec::ModelSpec spec, int layers, const PassOrder& order, const Batch& batch) {
  spec.num_layers = layers;
  spec.feed_forward.assign(static_cast<size_t>(layers), spec::FeedForward::Moe);
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  model.forward(batch, {}, nullptr, order).total.backward();  // memory that threads keep comes into being
  const size_t before = allocated_memory();
  const Losses losses = model.forward(batch, {}, nullptr, order);
  return allocated_memory() - before;
}

TEST(Transformer, OfALayerMadeAgainItsInputAndItsRoutingAreKept) {
  spec::ModelSpec spec = small_spec();
  spec.width = 64;
  spec.moe.expert_hidden = 64;
  const Batch batch = random_batch(spec, {300, 300, 424});
  const auto a_layer = [&](const PassOrder& order) {
    return (bytes_kept(spec, 6, order, batch) - bytes_kept(spec, 2, order, batch)) / 4;
  };
  const size_t input = 1024 * 64 * 4, scores = 1024 * 6 * 4, visits = 1024 * 2 * 28, tokens = 1024 * 8;
  const size_t again = a_layer({.recompute_layers = true}), kept = a_layer({});
  EXPECT_GE(again, input);
  EXPECT_LT(again, input + scores + visits + tokens + 40000);
  EXPECT_GT(kept, 5 * again);
}
#endif

// Shares that are a permutation are experts in another order; shares between permutations go there and back when a layer is made again.
TEST(Transformer, SharesOfExpertsAreThoseExpertsInOtherPlaces) {
  const spec::ModelSpec spec = small_spec();
  const std::vector<size_t> from{4, 0, 5, 1, 3, 2};
  Weights gates(spec), moved(spec);
  randomise(gates, spec);
  std::ranges::copy(gates.values(), moved.values().begin());
  for (const Weights::Entry& entry : gates.entries()) {
    if (!spec::is_expert(entry.weight.role)) continue;
    const size_t size = entry.size / 6;
    for (size_t e = 0; e < 6; ++e) std::ranges::copy(gates.values().subspan(entry.begin + from[e] * size, size), moved.values().begin() + static_cast<ptrdiff_t>(entry.begin + e * size));
  }
  Matrix<float> share_EE(6, 6), gradient_EE(6, 6);
  for (size_t e = 0; e < 6; ++e) share_EE.row(e)[from[e]] = 1;
  const std::vector<WeightMatrix> shares(2, WeightMatrix{share_EE.view(), gradient_EE.view()});
  const Batch batch = random_batch(spec, {70, 1, 9, 40});
  const Losses permuted = Transformer(spec, gates).forward(batch, {.balance = 0.5f}, nullptr, {.shares = &shares});
  const Losses expected = Transformer(spec, moved).forward(batch, {.balance = 0.5f});
  EXPECT_NEAR(permuted.total.item<float>(), expected.total.item<float>(), 1e-6);

  for (float& x : share_EE.flat()) x = 0.5f * x + 0.5f / 6;
  std::vector<std::vector<float>> gradients;
  for (const bool recompute : {false, true}) {
    std::ranges::fill(gradient_EE.flat(), 0.0f);
    Transformer model(spec, gates);
    model.forward(batch, {}, nullptr, {.recompute_layers = recompute, .shares = &shares}).total.backward();
    gradients.emplace_back(gradient_EE.flat().begin(), gradient_EE.flat().end());
  }
  EXPECT_GT(sum_of_squares(gradients[0]), 0);
  EXPECT_EQ(gradients[0], gradients[1]);
}

// Experts that some tokens lose and others gain: held to the plain model with the same mixing weights.
TEST(Transformer, RoundedTokensFillWholeTiles) {
  const spec::ModelSpec spec = small_spec();
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  const Batch batch = random_batch(spec, {70, 1, 9, 40});
  Routes routes;
  model.forward(batch, {}, &routes, {.round_tokens = 16});
  for (const auto& layer : routes) {
    const moe::DispatchPlan plan = moe::plan_dispatch(layer->plan->routing);
    for (int e = 0; e < plan.num_experts(); ++e) EXPECT_EQ(plan.rows_of(e) % 16, 0);
  }
}

TEST(Transformer, ADocumentDoesNotSeeItsNeighbours) {
  const spec::ModelSpec spec = small_spec();
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  const Batch both = random_batch(spec, {20, 12});
  Batch second;
  second.tokens_T.assign(both.tokens_T.begin() + 20, both.tokens_T.end());
  second.segments = {{0, 12}};
  const Tensor together = model.logits(both).slice(0, 20), alone = model.logits(second);
  EXPECT_LT((together - alone).abs().max().item<float>(), 1e-5);
}

}  // namespace
}  // namespace moiety::train
