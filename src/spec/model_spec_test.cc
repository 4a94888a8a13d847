#include "spec/model_spec.h"

#include <gtest/gtest.h>

#include "spec/weight.h"

namespace moiety::spec {
namespace {

ModelSpec small() {
  ModelSpec s{.family = "moiety", .num_layers = 3, .width = 64, .vocab_size = 100, .max_positions = 128, .norm_eps = 1e-6f};
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .qk_norm = QkNorm::PerHead, .qkv_bias = true};
  s.moe = {.router = {.num_experts = 8, .experts_per_token = 2, .score = Score::Sigmoid, .has_selection_bias = true, .scale = 2.5f},
           .expert_hidden = 32, .shared_hidden = 48, .shared_gate = true};
  s.dense_hidden = 96;
  s.feed_forward = {FeedForward::Dense, FeedForward::Moe, FeedForward::Moe};
  s.bos_token = 1;
  s.eos_tokens = {2, 3};
  return s;
}

TEST(ModelSpec, JsonThereAndBackIsTheSame) {
  const ModelSpec s = small();
  EXPECT_EQ(to_json(model_spec_from_json(to_json(s), "x")), to_json(s));
}

TEST(ModelSpec, ParametersAreTheSumOfAllWeights) {
  for (const bool tied : {false, true}) {
    ModelSpec s = small();
    s.tied_embeddings = tied;
    int64_t sum = 0;
    for (const Weight& w : weights_of(s, true)) {
      int64_t elements = 1;
      for (const int64_t size : shape_of(s, w.role)) elements *= size;
      sum += elements;
    }
    EXPECT_EQ(s.parameters(), sum);
  }
}

TEST(ModelSpec, SizesThatDoNotFitAreRefusedWithTheFieldsName) {
  const auto message = [](auto change) -> std::string {
    ModelSpec s = small();
    change(s);
    try {
      check(s, "config.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([](ModelSpec&) {}), "");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.router.experts_per_token = 9; }),
            "config.json: experts per token is 9, expected 1 to 8");
  EXPECT_EQ(message([](ModelSpec& s) { s.attention.num_kv_heads = 3; }),
            "config.json: 4 attention heads can't be shared evenly by 3 key-value heads");
  EXPECT_NE(message([](ModelSpec& s) { s.attention.head_dim = 15; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.num_layers = 0; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.width = 1 << 30; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.eos_tokens = {100}; }), "");
}

}  // namespace
}  // namespace moiety::spec
