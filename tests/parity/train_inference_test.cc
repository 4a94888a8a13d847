// Training and inference, two forward passes over the same weights: the same logits, the same experts.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "format/convert.h"
#include "format/elements.h"
#include "format/hf_config.h"
#include "model/transformer.h"
#include "moe/join.h"
#include "support/fixtures.h"
#include "support/random_model.h"
#include "support/routers.h"
#include "train/transformer.h"

namespace moiety {
namespace {

using spec::ModelSpec;
using spec::QkNorm;

struct Case {
  const char* name;
  void (*change)(ModelSpec&);
};

// A dense layer among sparse ones: gates go past it.
void with_gate(spec::Gate gate, ModelSpec& s) {
  s = test::small_spec(gate);
  s.num_layers = 4;
  s.feed_forward = {spec::FeedForward::Moe, spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
  s.dense_hidden = 40;
}

const Case kCases[] = {
    {"softmax", [](ModelSpec&) {}},
    {"softmax_not_renormalised", [](ModelSpec& s) { s.moe.router.renormalise = false; }},
    {"sigmoid_with_selection_bias_and_scale",
     [](ModelSpec& s) {
       s.moe.router.score = spec::Score::Sigmoid;
       s.moe.router.has_selection_bias = true;
       s.moe.router.scale = 2.5f;
     }},
    {"shared_experts", [](ModelSpec& s) { s.moe.shared_hidden = 24; }},
    {"gated_shared_experts", [](ModelSpec& s) { s.moe.shared_hidden = 24, s.moe.shared_gate = true; }},
    {"norm_per_head", [](ModelSpec& s) { s.attention.qk_norm = QkNorm::PerHead; }},
    {"norm_over_all_heads", [](ModelSpec& s) { s.attention.qk_norm = QkNorm::Whole; }},
    {"tied_embeddings", [](ModelSpec& s) { s.tied_embeddings = true; }},
    {"dense_layer_first",
     [](ModelSpec& s) {
       s.feed_forward[0] = spec::FeedForward::Dense;
       s.dense_hidden = 40;
     }},
    {"one_expert_of_many",
     [](ModelSpec& s) {
       s.moe.router.num_experts = 16;
       s.moe.router.experts_per_token = 1;
       s.moe.router.renormalise = false;
     }},
    {"cosine_gate", [](ModelSpec& s) { with_gate(spec::Gate::Cosine, s); }},
    {"hash_gate", [](ModelSpec& s) { with_gate(spec::Gate::Hash, s); }},
    {"random_gate", [](ModelSpec& s) { with_gate(spec::Gate::Random, s); }},
    {"recurrent_gate", [](ModelSpec& s) { with_gate(spec::Gate::Recurrent, s); }},
    {"tree_gate", [](ModelSpec& s) { with_gate(spec::Gate::Tree, s); }},
    {"ahead_gate", [](ModelSpec& s) { with_gate(spec::Gate::Ahead, s); }},
    {"decoupled_gate", [](ModelSpec& s) { with_gate(spec::Gate::Decoupled, s); }},
    {"moe_every_second_layer_of_different_numbers_of_experts",
     [](ModelSpec& s) {
       using enum spec::FeedForward;
       s.num_layers = 5;
       s.feed_forward = {Dense, Moe, Dense, Moe, Moe};
       s.dense_hidden = 40;
       s.moe.experts_L = {0, 2, 0, 3, 4};
     }},
    {"residual_expert",
     [](ModelSpec& s) {
       s.moe.router.experts_per_token = 1;
       s.moe.router.renormalise = false;
       s.moe.shared_hidden = 32, s.moe.shared_mix = true;
     }},
    {"chain_of_experts",
     [](ModelSpec& s) {
       s.moe.iterations = 2;  // of experts this large each one more multiplies what was rounded before
       s.moe.router.has_selection_bias = true;
       s.moe.shared_hidden = 24, s.moe.shared_gate = true;
     }},
    {"narrow_experts", [](ModelSpec& s) { s.moe.expert_width = 12, s.moe.shared_hidden = 24; }},
    {"ternary_experts", [](ModelSpec& s) { s.moe.ternary_experts = true, s.moe.shared_hidden = 24; }},
    {"momentum",
     [](ModelSpec& s) {
       s.num_layers = 4;
       s.feed_forward.assign(4, spec::FeedForward::Moe);
       s.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.7f, .step = 0.8f};
     }},
    {"adam_momentum",
     [](ModelSpec& s) {
       s.num_layers = 4;
       s.feed_forward.assign(4, spec::FeedForward::Moe);
       s.moe.momentum = {.kind = spec::Momentum::Adam, .decay = 0.6f, .square_decay = 0.9f, .step = 0.3f, .eps = 1e-4f};
     }},
    {"attention_experts",
     [](ModelSpec& s) {
       s.attention.num_heads = 8;
       s.attention.qk_norm = QkNorm::PerHead;
       s.attention.experts = spec::AttentionExperts{5, 2};
     }},
    {"stick_breaking", [](ModelSpec& s) { s.attention.weigh = spec::AttentionWeigh::StickBreaking; }},
    {"stick_breaking_attention_experts",
     [](ModelSpec& s) {
       s.attention.weigh = spec::AttentionWeigh::StickBreaking;
       s.attention.num_heads = 8;
       s.attention.qk_norm = QkNorm::PerHead;
       s.attention.experts = spec::AttentionExperts{5, 2};
     }},
    {"biases_after_attention_and_experts",
     [](ModelSpec& s) {
       s.attention.output_bias = s.moe.output_bias = true;
       s.attention.num_heads = 8;
       s.attention.experts = spec::AttentionExperts{5, 2};
     }},
    {"gru_experts", [](ModelSpec& s) { s = test::small_spec_with_grus(); }},
    {"a_gru_expert_of_one_a_token",
     [](ModelSpec& s) {
       s = test::small_spec_with_grus();
       s.moe.router.experts_per_token = 1;
       s.moe.router.renormalise = false;
       s.moe.shared_hidden = 24;
       s.moe.expert_width = 12;
     }},
    {"all_block_shapes_at_once",
     [](ModelSpec& s) {
       s.num_layers = 3;
       s.feed_forward.assign(3, spec::FeedForward::Moe);
       s.moe.experts_L = {2, 3, 4};
       s.moe.iterations = 2;
       s.moe.expert_width = 16;
       s.moe.ternary_experts = true;
       s.moe.shared_hidden = 24;
       s.moe.momentum = {.kind = spec::Momentum::HeavyBall, .decay = 0.5f};
       s.attention.experts = spec::AttentionExperts{6, 2};
     }},
};

Matrix<float> inference(const fs::path& model_path, std::span<const int32_t> tokens, const model::RoutingObserver& observe = {}) {
  const format::ModelFile file(model_path);
  ThreadPool threads(2);
  const kernel::Compute compute{*kernel::available_kernels()[0], threads};
  model::Transformer transformer(file, compute);
  model::KvCache cache(file.spec(), tokens.size());
  const model::Chunk chunk{&cache, tokens, tokens.size()};
  return transformer.forward({&chunk, 1}, observe);
}

std::vector<int32_t> random_tokens(const ModelSpec& spec) {
  Random random(3);
  std::vector<int32_t> tokens(60);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));
  return tokens;
}

void expect_agreement(const ModelSpec& spec) {
  test::TemporaryFolder folder;
  test::write_random_checkpoint(spec, folder.path());

  const std::vector<int32_t> tokens = random_tokens(spec);

  // Training
  train::LoadedModel trained = train::load_model(folder.path());
  train::Batch batch{.tokens_T = tokens, .targets_T = tokens, .segments = {{0, 60}}};
  train::Routes routes;
  const torch::Tensor logits = trained.transformer->logits(batch, &routes).contiguous();

  // Inference
  size_t sparse_layer = 0;
  const Matrix<float> inferred = inference(folder.path(), tokens, [&](int layer, const moe::Routing& routing) {
        std::vector<const moe::Routing*> iterations;
        for (int i = 0; i < spec.moe.iterations; ++i) {
          ASSERT_LT(sparse_layer, routes.size());
          iterations.push_back(&routes[sparse_layer++]->plan->routing);
        }
        const moe::Routing in_training = moe::join_visits(iterations);
        EXPECT_EQ(routing.begin_T1, in_training.begin_T1) << "layer " << layer;
        EXPECT_EQ(routing.experts_N, in_training.experts_N) << "layer " << layer;
        for (int n = 0; n < routing.num_visits(); ++n) {
          EXPECT_NEAR(routing.weights_N[n], in_training.weights_N[n], 1e-5) << "layer " << layer;
        }
        EXPECT_EQ(routing.zero_cost.begin_T1, in_training.zero_cost.begin_T1) << "layer " << layer;
        EXPECT_EQ(routing.zero_cost.experts_N, in_training.zero_cost.experts_N) << "layer " << layer;
        EXPECT_EQ(static_cast<int>(routing.zero_cost.experts_N.size() + routing.experts_N.size()) > 0, true);
      });
  EXPECT_EQ(sparse_layer, routes.size());

  ASSERT_EQ(static_cast<size_t>(logits.numel()), inferred.flat().size());
  float largest = 0, size = 0;
  for (size_t i = 0; i < inferred.flat().size(); ++i) {
    const float difference = std::abs(inferred.flat()[i] - logits.data_ptr<float>()[i]);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
    size = std::max(size, std::abs(inferred.flat()[i]));
  }
  EXPECT_LT(largest, 1e-4);
  EXPECT_GT(size, 1);  // of something, not of zeros
}

class TrainingAndInference : public testing::TestWithParam<Case> {};

TEST_P(TrainingAndInference, AgreeOnLogitsAndExperts) {
  ModelSpec spec = test::small_spec();
  GetParam().change(spec);
  expect_agreement(spec);
}

class TrainingAndInferenceRouters : public testing::TestWithParam<test::RouterCase> {};

TEST_P(TrainingAndInferenceRouters, AgreeOnLogitsAndExperts) {
  ModelSpec spec = test::small_spec();
  spec.num_layers = 3;
  spec.feed_forward.assign(3, spec::FeedForward::Moe);
  GetParam().change(spec.moe.router);
  expect_agreement(spec);
}

INSTANTIATE_TEST_SUITE_P(Routers, TrainingAndInferenceRouters, testing::ValuesIn(test::kRouters),
                         [](const auto& test) { return test::name_of(test.param); });

INSTANTIATE_TEST_SUITE_P(Models, TrainingAndInference, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

// What is exported is ternary as it is: a standard architecture, whose weights bf16 holds without rounding.
TEST(Export, TernaryExpertsAreAStandardArchitecturesInBf16) {
  ModelSpec spec = test::small_spec();
  spec.attention.qk_norm = QkNorm::PerHead;
  spec.moe.ternary_experts = true;
  const test::TemporaryFolder trained, exported;
  test::write_random_checkpoint(spec, trained.path());
  const format::ModelFile file(trained.path());
  const format::Family& family = format::closest_family(file.spec(), format::FileKind::HuggingFace);
  EXPECT_EQ(family.name, "qwen3_moe");
  const spec::Weight expert{spec::Role::ExpertUp, 1, 2};
  EXPECT_EQ(file.weight(expert).type, spec::ElementType::BF16);
  format::write_safetensors(exported.path() / "model.safetensors", format::hf_tensors(file, family, spec::ElementType::BF16));
  write_file(exported.path() / "config.json", format::hf_config(file.spec(), family, spec::ElementType::BF16).dump());

  const format::ModelFile again(exported.path());
  EXPECT_FALSE(again.spec().moe.ternary_experts);
  EXPECT_EQ(format::to_floats(again.weight(expert)), format::to_floats(file.weight(expert)));
}

TEST(Export, WhatNoStandardArchitectureComputesIsRefusedByItsName) {
  const auto refusal = [](auto change) -> std::string {
    ModelSpec spec = test::small_spec();
    change(spec);
    try {
      format::closest_family(spec, format::FileKind::HuggingFace);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal([](ModelSpec&) {}), "");
  EXPECT_NE(refusal([](ModelSpec& s) { s.moe.experts_L = {2, 4}; }).find("layers of different numbers of experts"), std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.moe.iterations = 2; }).find("chains of experts"), std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.moe.expert_width = 8; }).find("experts of a width of their own"), std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.moe.momentum.kind = spec::Momentum::Adam; }).find("momentum"), std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.attention.experts = spec::AttentionExperts{3, 1}; }).find("attention experts"), std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.moe.shared_hidden = 32, s.moe.shared_mix = true; }), "");
}

}  // namespace
}  // namespace moiety
