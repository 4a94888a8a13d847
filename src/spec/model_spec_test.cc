#include "spec/model_spec.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "spec/expert_kind.h"
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

// All that a block may be shaped otherwise by.
ModelSpec odd() {
  ModelSpec s = small();
  s.attention = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .experts = AttentionExperts{6, 2}};
  s.moe.experts_L = {0, 4, 8};
  s.moe.iterations = 3;
  s.moe.expert_width = 16;
  s.moe.ternary_experts = true;
  s.moe.momentum = {Momentum::Adam, 0.7f, 0.9f, 0.5f, 1e-6f};
  return s;
}

TEST(ModelSpec, JsonThereAndBackIsTheSame) {
  EXPECT_EQ(to_json(model_spec_from_json(to_json(small()), "x")), to_json(small()));
  const ModelSpec s = odd();
  const ModelSpec again = model_spec_from_json(to_json(s), "x");
  EXPECT_EQ(to_json(again), to_json(s));
  EXPECT_EQ(again.moe.experts_L, s.moe.experts_L);
  EXPECT_EQ(again.moe.momentum.kind, Momentum::Adam);
  EXPECT_EQ(again.attention.experts->num_experts, 6);
}

ModelSpec with_grus() {
  ModelSpec s = small();
  s.moe.experts_L = {0, 4, 8};
  s.moe.expert_width = 16;
  s.moe.gru_experts = 3;
  s.moe.gru_hidden = 10;
  return s;
}

// Files from before a field was there read as they did then.
TEST(ModelSpec, JsonWithoutBlockShapesIsThePlainBlock) {
  Json json = to_json(small());
  for (const char* key : {"experts_by_layer", "iterations", "expert_width", "ternary_experts", "momentum", "shared_mix",
                          "gru_experts", "gru_hidden"}) {
    ASSERT_EQ(json["moe"].erase(key), 1u);
  }
  EXPECT_EQ(to_json(model_spec_from_json(json, "x")), to_json(small()));
}

TEST(ModelSpec, LayersHaveTheirOwnNumbersOfExperts) {
  const ModelSpec s = odd();
  EXPECT_EQ(s.experts(0), 0);
  EXPECT_EQ(s.experts(1), 4);
  EXPECT_EQ(s.router(2).num_experts, 8);
  EXPECT_EQ(shape_of(s, Role::Router, 1), (std::vector<int64_t>{3 * 4, 64}));
  EXPECT_EQ(shape_of(s, Role::Router), (std::vector<int64_t>{3 * 8, 64}));
  EXPECT_EQ(small().experts(0), 0);
  EXPECT_EQ(small().experts(1), 8);
}

TEST(ModelSpec, ALayerNumbersItsExpertsKindByKind) {
  const ModelSpec s = with_grus();
  check(s, "the test");
  EXPECT_EQ(to_json(model_spec_from_json(to_json(s), "x")), to_json(s));
  EXPECT_EQ(experts_of(s, 0, ExpertKind::Gru), 0);
  EXPECT_EQ(experts_of(s, 1, ExpertKind::FeedForward), 1);
  EXPECT_EQ(experts_with(s, 2, Role::ExpertUp), 5);
  EXPECT_EQ(experts_with(s, 2, Role::ExpertGruStateBias), 3);
  EXPECT_EQ(experts_with(s, 2, Role::Router), 0);
  EXPECT_EQ(place_of(s, 2, 4).kind, ExpertKind::FeedForward);
  EXPECT_EQ(place_of(s, 2, 6).kind, ExpertKind::Gru);
  EXPECT_EQ(place_of(s, 2, 6).number, 1);
  EXPECT_EQ(shape_of(s, Role::ExpertGruInput, 1), (std::vector<int64_t>{30, 16}));
  EXPECT_EQ(shape_of(s, Role::ExpertGruOutput, 1), (std::vector<int64_t>{16, 10}));
}

TEST(ModelSpec, SequencesHaveAStateOfEveryGru) {
  EXPECT_EQ(state_before(small(), 3), 0);
  const ModelSpec s = with_grus();
  EXPECT_EQ(state_before(s, 1), 0);
  EXPECT_EQ(state_before(s, 2), 3 * 10);
  EXPECT_EQ(state_before(s, 3), 2 * 3 * 10);
}

TEST(ModelSpec, ALayerOfGrusAloneIsRefused) {
  ModelSpec s = with_grus();
  s.moe.gru_experts = 4;
  EXPECT_THROW(check(s, "the test"), Error);
  s = with_grus();
  s.moe.gru_hidden = 0;
  EXPECT_THROW(check(s, "the test"), Error);
  s = with_grus();
  s.moe.iterations = 2;
  EXPECT_THROW(check(s, "the test"), Error);
}

TEST(ModelSpec, ATokenMeetsItsExpertsOfEveryIterationAndOfAttention) {
  const ModelSpec s = odd();
  const int64_t expert = 3 * 32 * 16, attention_expert = 2 * 32 * 64;  // gate, up, down; query, output
  int64_t all_experts = (4 + 8) * expert + s.num_layers * 6 * attention_expert;
  EXPECT_EQ(s.parameters() - s.active_parameters(),
            s.vocab_size * s.width + all_experts - 2 * (2 * 3) * expert - s.num_layers * 2 * attention_expert);
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
    for (ModelSpec s : {small(), odd(), with_grus()}) {
      s.tied_embeddings = tied;
      int64_t sum = 0;
      for (const Weight& w : weights_of(s, true)) {
        int64_t elements = 1;
        for (const int64_t size : shape_of(s, w.role, w.layer)) elements *= size;
        sum += elements;
      }
      EXPECT_EQ(s.parameters(), sum);
    }
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
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.experts_L = {0, 4}; }), "config.json: numbers of experts of 2 layers, of 3");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.experts_L = {2, 4, 8}; }), "config.json: 2 experts in layer 0, which is dense");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.experts_L = {0, 1, 8}; }), "config.json: experts per token is 2, expected 1 to 1");
  EXPECT_EQ(message([](ModelSpec& s) { s.moe.experts_L = {0, 4, 4}; }),
            "config.json: 8 experts, but the layer that has most has 4");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.iterations = 0; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.expert_width = 65; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.momentum.decay = 1; }), "");
  EXPECT_NE(message([](ModelSpec& s) { s.moe.shared_mix = true; }), "");  // and a gate
  EXPECT_NE(message([](ModelSpec& s) { s.attention.experts = AttentionExperts{6, 2}; }), "");  // and biases
  EXPECT_EQ(message([](ModelSpec& s) {
              s.attention.qkv_bias = false;
              s.attention.experts = AttentionExperts{6, 3};
            }),
            "config.json: 4 attention heads can't be shared evenly by 3 experts of 2 key-value heads");
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
