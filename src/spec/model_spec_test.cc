#include "spec/model_spec.h"

#include <gtest/gtest.h>

#include <algorithm>

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

TEST(ModelSpec, JsonThereAndBackIsTheSameForEveryStageOfARouter) {
  ModelSpec s = small();
  RouterRule& r = s.moe.router;
  r = {.num_experts = 8, .experts_per_token = 5, .logit_activation = LogitActivation::Silu, .temperature = 0.5f,
       .gating_residual = true, .select = Select::Tsallis, .top_p = 0.7f, .threshold = 0.1f, .tsallis_q = 1.5f,
       .soft_entropy = 0.25f, .null_experts = 1, .zero_experts = 2, .copy_experts = 3, .constant_experts = 4};
  const Json json = to_json(s);
  EXPECT_EQ(to_json(model_spec_from_json(json, "x")), json);
  // Nothing of it is lost on the way out either.
  const Json plain = to_json(small())["moe"];
  for (const char* key : {"logit_activation", "temperature", "gating_residual", "select", "top_p", "threshold", "tsallis_q",
                          "soft_entropy", "null_experts", "zero_experts", "copy_experts", "constant_experts"}) {
    EXPECT_NE(json["moe"][key], plain[key]) << key;
  }
}

TEST(ModelSpec, TheFirstMoeLayerHasNoGatingResidual) {
  ModelSpec s = small();
  s.moe.router.gating_residual = true;
  std::vector<int> layers;
  for (const Weight& w : weights_of(s, false)) {
    if (w.role == Role::GatingResidual) layers.push_back(w.layer);
  }
  EXPECT_EQ(layers, (std::vector<int>{2}));
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

TEST(ModelSpec, EveryGateGoesThroughJsonAndHasTheWeightsItNeeds) {
  struct Case {
    Gate gate;
    std::vector<Role> once, a_layer;  // of its own
    std::vector<int64_t> router;
  };
  const Case cases[] = {
      {Gate::Linear, {}, {}, {8, 64}},
      {Gate::Cosine, {}, {Role::GateDown, Role::GateTemperature}, {8, 12}},
      {Gate::Hash, {}, {}, {}},
      {Gate::Random, {}, {}, {}},
      {Gate::Recurrent, {Role::GruInput, Role::GruState, Role::GruInputBias, Role::GruStateBias}, {Role::GateDown}, {8, 12}},
      {Gate::Tree, {}, {Role::GateLeaf}, {14, 64}},
      {Gate::Ahead, {}, {}, {8, 64}},
      {Gate::Decoupled, {Role::GateDown}, {}, {8, 12}},
  };
  for (const Case& c : cases) {
    ModelSpec s = small();
    s.moe.router = {.num_experts = 8, .experts_per_token = 2, .gate = c.gate, .gate_width = 12, .gate_temperature = 0.25f,
                    .gate_learns_temperature = true, .gate_step = 0.5f, .gate_seed = int64_t{1} << 60};
    EXPECT_EQ(to_json(model_spec_from_json(to_json(s), "x")), to_json(s));
    int routers = 0;
    for (const Role role : c.once) EXPECT_EQ(std::ranges::count(weights_of(s, false), role, &Weight::role), 1);
    for (const Role role : c.a_layer) EXPECT_EQ(std::ranges::count(weights_of(s, false), role, &Weight::role), 2);
    for (const Weight& w : weights_of(s, false)) routers += w.role == Role::Router;
    EXPECT_EQ(routers, c.router.empty() ? 0 : 2);
    if (!c.router.empty()) {
      EXPECT_EQ(shape_of(s, Role::Router), c.router);
    }
    const int attentions = static_cast<int>(std::ranges::count(weights_of(s, false), Role::Query, &Weight::role));
    EXPECT_EQ(attentions, s.attention_layers());
    EXPECT_EQ(attentions, c.gate == Gate::Decoupled ? 4 : 3);
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
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.temperature = 0; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.select = Select::TopP; }), "");  // sigmoid scores
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.router.select = Select::ExpertChoice; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.select = Select::ExpertChoice, s.moe.router.has_selection_bias = false; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.select = Select::Grouped, s.moe.router.num_groups = s.moe.router.groups_per_token = 4; }), "");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.router.select = Select::Grouped, s.moe.router.num_groups = s.moe.router.groups_per_token = 2; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.copy_experts = 1, s.moe.router.num_groups = 2; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.num_layers = 0; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.width = 1 << 30; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.eos_tokens = {100}; }), "");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.router.gate = Gate::Cosine; }),
            "config.json: the gate's width is 0, expected 1 to 16777216");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.gate = Gate::Hash; }), "");  // with a selection bias
  EXPECT_NE(message([](ModelSpec& s) { s.moe.router.gate = Gate::Tree; }), "");  // of sigmoid scores
}

}  // namespace
}  // namespace moiety::spec
