// Training and inference, two forward passes over the same weights: the same logits, the same experts.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "model/transformer.h"
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
};

void expect_agreement(const ModelSpec& spec) {
  test::TemporaryFolder folder;
  test::write_random_checkpoint(spec, folder.path());

  Random random(3);
  std::vector<int32_t> tokens(60);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));

  // Training
  train::LoadedModel trained = train::load_model(folder.path());
  train::Batch batch{.tokens_T = tokens, .targets_T = tokens, .segments = {{0, 60}}};
  train::Routes routes;
  const torch::Tensor logits = trained.transformer->logits(batch, &routes).contiguous();

  // Inference
  const format::ModelFile file(folder.path());
  ThreadPool threads(2);
  const kernel::Compute compute{*kernel::available_kernels()[0], threads};
  model::Transformer transformer(file, compute);
  model::KvCache cache(file.spec(), tokens.size());
  const model::Chunk chunk{&cache, tokens, tokens.size()};
  size_t sparse_layer = 0;
  const Matrix<float> inferred = transformer.forward({&chunk, 1},
      [&](int layer, const moe::Routing& routing) {
        ASSERT_LT(sparse_layer, routes.size());
        const moe::Routing& in_training = routes[sparse_layer++]->plan->routing;
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

}  // namespace
}  // namespace moiety
