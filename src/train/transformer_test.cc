// The whole model, held to a slow plain formulation of it: logits, loss and every weight's gradient.
#include "train/transformer.h"

#include <gtest/gtest.h>

#include "base/random.h"
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

void expect_same_as_reference(const spec::ModelSpec& spec) {
  Weights weights(spec);
  randomise(weights, spec);
  Transformer model(spec, weights);
  reference::Model plain(spec, weights);
  // Longer and shorter than a block of queries; a segment of one token.
  const Batch batch = random_batch(spec, {70, 1, 9, 40});

  const reference::Output expected = reference::forward(plain, batch, 0.5, 0.01);
  EXPECT_LT(distance(model.logits(batch), expected.logits.detach()), 1e-5);

  const Losses losses = model.forward(batch, {.balance = 0.5f, .z = 0.01f});
  EXPECT_NEAR(losses.total.item<double>(), expected.loss.item<double>(), 1e-5);
  losses.total.backward();
  expected.loss.backward();
  for (const Weights::Entry& entry : weights.entries()) {
    if (entry.weight.role == spec::Role::SelectionBias) continue;  // steers the choice alone
    const Tensor mine = torch::from_blob(weights.gradients().data() + entry.begin, {static_cast<int64_t>(entry.size)});
    EXPECT_LT(distance(mine.reshape(entry.shape), plain.at(entry.name).grad()), 2e-4) << entry.name;
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

TEST(Transformer, IsThePlainModelWithoutNormsOfQueriesAndOneExpertAToken) {
  spec::ModelSpec spec = small_spec();
  spec.attention.qk_norm = spec::QkNorm::None;
  spec.attention.num_kv_heads = 4;
  spec.moe.router.experts_per_token = 1;
  spec.moe.router.renormalise = false;
  expect_same_as_reference(spec);
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
