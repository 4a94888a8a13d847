#include "train/config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moiety::train {
namespace {

std::string complaint(std::string_view toml, const std::vector<std::string>& overrides = {}) {
  try {
    parse_config(toml, "c.toml", overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(TrainConfig, AnEmptyFileMeansTheDefaults) {
  const TrainConfig config = parse_config("", "c.toml", {});
  EXPECT_EQ(config.model.layers, TrainConfig{}.model.layers);
  EXPECT_NO_THROW(model_spec(config, 300, 0));
}

TEST(TrainConfig, WhatIsPrintedReadsBackTheSame) {
  TrainConfig config = parse_config(
      "[model]\nwidth = 96\nscore = \"sigmoid\"\n[optimizer]\nlr = 1e-3\n[[domain]]\nname = \"a\"\ntrain = \"a \\\"b\\\"\"\n",
      "c.toml", {"train.steps=7"});
  const std::string printed = print_config(config);
  EXPECT_EQ(print_config(parse_config(printed, "printed", {})), printed);
  EXPECT_NE(printed.find("width = 96"), printed.npos);
  EXPECT_NE(printed.find("steps = 7"), printed.npos);
}

TEST(TrainConfig, AMistakeIsNamedWithItsKeyAndLine) {
  EXPECT_EQ(complaint("[model]\nwidth = 0\n"), "c.toml:2: model.width is 0, expected 1 to 65536");
  EXPECT_EQ(complaint("[model]\n\nwidth = \"big\"\n"), "c.toml:3: model.width is a string, expected an integer");
  EXPECT_EQ(complaint("[optimizer]\nlr = nan\n"), "c.toml:2: optimizer.lr is nan, expected 0 to 100");
  EXPECT_EQ(complaint("[schedule]\nkind = \"line\"\n"),
            "c.toml:2: schedule.kind is \"line\", expected one of \"cosine\", \"wsd\"");
  EXPECT_EQ(complaint("[balance]\naux = 1\n"),
            "c.toml:2: balance has no key \"aux\"; it knows aux_loss, bias_rate, concentration, consistency, cut_off_rate, entropy_loss, "
            "mutual_information, scope, z_loss, zero_cost");
  EXPECT_TRUE(complaint("\n[modell]\nwidth = 1\n").starts_with("c.toml:2: there is no section \"modell\""));
  EXPECT_TRUE(complaint("model = 3\n").starts_with("c.toml:1: model must be a table"));
  EXPECT_TRUE(complaint("[model]\nwidth =\n").starts_with("c.toml:2: not valid TOML"));
  EXPECT_TRUE(complaint("[[domain]]\nname = \"a\"\n").starts_with("c.toml:1: a domain needs"));
  EXPECT_TRUE(complaint("[[domain]]\nname = \"../a\"\ntrain = \"t\"\n").starts_with("c.toml:1: domain.name"));
}

TEST(TrainConfig, SizesThatDoNotFitAreRefused) {
  EXPECT_NE(complaint("[model]\nheads = 4\nkv_heads = 3\n"), "");
  EXPECT_NE(complaint("[model]\nhead_dim = 7\n"), "");
  EXPECT_NE(complaint("[model]\nexperts = 2\nexperts_per_token = 3\n"), "");
  EXPECT_NE(complaint("[model]\ndense_layers = 9\n"), "");
}

TEST(TrainConfig, StagesOfRoutingThatDoNotFitAreRefused) {
  EXPECT_NE(complaint("[anneal]\nexperts_from = 9\n"), "");
  EXPECT_NE(complaint("[anneal]\nexperts_from = 8\n[train]\nminutes = 5\n"), "");
  EXPECT_EQ(complaint("[anneal]\nexperts_from = 8\nexperts_steps = 10\n[train]\nminutes = 5\n"), "");
  EXPECT_NE(complaint("[anneal]\nspawn_step = 10\n[train]\nsteps = 10\n"), "");
  EXPECT_NE(complaint("[anneal]\nspawn_step = 4\nsearch_steps = 6\n[train]\nsteps = 10\n"), "");
  EXPECT_EQ(complaint("[anneal]\nspawn_step = 4\nsearch_steps = 5\n[train]\nsteps = 10\n"), "");
  EXPECT_NE(complaint("[anneal]\nsearch_steps = 5\n[train]\ncapacity = 2\n"), "");
  EXPECT_NE(complaint("[anneal]\nsearch_steps = 5\n[train]\nfrozen_experts = 2\n"), "");
  EXPECT_NE(complaint("[balance]\nmutual_information = 1\n[model]\nselect = \"tsallis\"\n"), "");
  EXPECT_NE(complaint("[anneal]\nsearch_steps = 5\n[model]\niterations = 2\n"), "");
  EXPECT_EQ(complaint("[balance]\nconsistency = 1\n[model]\ngate = \"random\"\n"), "");
  EXPECT_NE(complaint("[train]\ncapacity = 1\nreceive_budget = 100000\n"), "");
  EXPECT_NE(complaint("[train]\nreceive_budget = 511\n"), "");  // 256 tokens, 2 experts each
  EXPECT_EQ(complaint("[train]\nreceive_budget = 512\n"), "");
  EXPECT_EQ(complaint("[train]\nreceive_budget = 256\nreceive_sets = 8\n"), "");
  EXPECT_NE(complaint("[train]\nreceive_sets = 9\n"), "");
}

TEST(TrainConfig, EveryStageOfARouterHasItsKey) {
  const TrainConfig config = parse_config(
      "[model]\nexperts_per_token = 9\nlogit_activation = \"tanh\"\ntemperature = 0.5\nselect = \"tsallis\"\ntop_p = 0.75\n"
      "tsallis_q = 1.25\nsoft_entropy = 0.5\nnull_experts = 1\nzero_experts = 2\ncopy_experts = 3\nconstant_experts = 4\n"
      "gating_residual = true\n", "c.toml", {});
  const spec::RouterRule rule = model_spec(config, 300, 0).moe.router;
  EXPECT_EQ(rule.logit_activation, spec::LogitActivation::Tanh);
  EXPECT_EQ(rule.temperature, 0.5f);
  EXPECT_EQ(rule.select, spec::Select::Tsallis);
  EXPECT_EQ(rule.top_p, 0.75f);
  EXPECT_EQ(rule.tsallis_q, 1.25f);
  EXPECT_EQ(rule.soft_entropy, 0.5f);
  EXPECT_EQ(rule.num_choices(), 18);
  EXPECT_EQ(rule.constant_experts, 4);
  EXPECT_TRUE(rule.gating_residual);
  const auto select = [](const char* name, std::vector<std::string> more) {
    more.push_back(std::string("model.select=") + name);
    return model_spec(parse_config("", "c.toml", more), 300, 0).moe.router;
  };
  EXPECT_EQ(select("grouped", {"model.groups=2"}).groups_per_token, 2);
  EXPECT_EQ(select("threshold", {"model.threshold=0.125"}).threshold, 0.125f);
  EXPECT_TRUE(select("expert_choice", {}).has_selection_bias);
  EXPECT_EQ(select("top_k", {"model.groups=4", "model.groups_per_token=2", "model.group_score=best"}).group_score, spec::GroupScore::Best);
  EXPECT_EQ(select("top_k", {"model.weigh=sparse_mixer", "model.score=logits", "model.renormalise=false"}).weigh, spec::Weigh::SparseMixer);
}

TEST(TrainConfig, StagesThatDoNotGoTogetherAreRefused) {
  for (const char* keys : {"select = \"top_p\"\nscore = \"sigmoid\"", "select = \"grouped\"", "groups = 3", "groups_per_token = 2",
                           "weigh = \"sparse_mixer\"", "score = \"logits\"", "groups = 2\ncopy_experts = 1",
                           "select = \"grouped\"\ngroups = 4", "select = \"expert_choice\"\n[balance]\nbias_rate = 0.1"}) {
    EXPECT_THROW(model_spec(parse_config(std::string("[model]\n") + keys, "c.toml", {}), 300, 0), Error) << keys;
  }
}

TEST(TrainConfig, WhatIsSmallIsNotOffloaded) {
  EXPECT_EQ(complaint("[optimizer]\nstate = \"factored\"\noffload = \"ssd\"\n"),
            "c.toml: optimizer.offload is \"ssd\", expected \"none\" with optimizer.state \"factored\"");
  EXPECT_EQ(complaint("[optimizer]\nstate = \"int4\"\n"),
            "c.toml:2: optimizer.state is \"int4\", expected one of \"f32\", \"int8\", \"factored\"");
}

TEST(TrainConfig, BlockShapesBecomeTheModels) {
  const auto spec_of = [](const char* model) {
    return model_spec(parse_config(std::string("[model]\nlayers = 6\n") + model, "c.toml", {}), 300, 0);
  };
  using enum spec::FeedForward;
  EXPECT_EQ(spec_of("dense_layers = 1\nmoe_every = 2\nmoe_offset = 1\n").feed_forward,
            (std::vector{Dense, Dense, Moe, Dense, Moe, Dense}));
  const spec::ModelSpec pyramid = spec_of("moe_every = 2\nmoe_offset = 1\nexperts = [8, 8, 16]\n");
  EXPECT_EQ(pyramid.moe.experts_L, (std::vector<int>{0, 8, 0, 8, 0, 16}));
  EXPECT_EQ(pyramid.moe.router.num_experts, 16);
  const spec::ModelSpec odd = spec_of(
      "iterations = 2\nexpert_width = 64\nternary_experts = true\nmomentum = \"adam\"\nmomentum_decay = 0.5\n"
      "shared_hidden = 64\nattention_experts = 4\nattention_experts_per_token = 1\nheads = 8\n");
  EXPECT_EQ(odd.moe.iterations, 2);
  EXPECT_EQ(odd.expert_width(), 64);
  EXPECT_TRUE(odd.moe.ternary_experts);
  EXPECT_EQ(odd.moe.momentum.kind, spec::Momentum::Adam);
  EXPECT_EQ(odd.moe.momentum.decay, 0.5f);
  EXPECT_EQ(odd.attention.expert_heads(), 8);
  EXPECT_TRUE(spec_of("shared_hidden = 64\nshared_mix = true\n").moe.shared_mix);
  const spec::ModelSpec grus = spec_of("moe_every = 2\nmoe_offset = 1\nexperts = [8, 8, 16]\ngru_experts = 2\ngru_hidden = 24\n");
  EXPECT_EQ(grus.moe.experts_L, (std::vector<int>{0, 10, 0, 10, 0, 18}));
  EXPECT_EQ(grus.moe.gru_experts, 2);
  EXPECT_EQ(grus.moe.gru_hidden, 24);
  EXPECT_NE(complaint("[model]\ngru_experts = 1\n[anneal]\nspawn_step = 10\n"), "");
}

TEST(TrainConfig, ListsOfExpertsAreReadAndPrinted) {
  const char* text = "[model]\nlayers = 2\nexperts = [4, 8]\n";
  const std::string printed = print_config(parse_config(text, "c.toml", {}));
  EXPECT_NE(printed.find("experts = [4, 8]"), printed.npos);
  EXPECT_EQ(print_config(parse_config(printed, "p.toml", {})), printed);
  EXPECT_EQ(parse_config(text, "c.toml", {"model.experts=3"}).model.experts_by_layer.size(), 0u);
  EXPECT_EQ(parse_config("", "c.toml", {"model.experts=[3,4,5,6]"}).model.experts, 6);
  EXPECT_EQ(complaint("[model]\nexperts = [8, 8]\n"), "c.toml: model.experts holds 2 numbers, but 4 of the layers have experts");
  EXPECT_EQ(complaint("[model]\nexperts = [8, 0, 8, 8]\n"), "c.toml:2: model.experts holds 0, expected 1 to 16384");
  EXPECT_EQ(complaint("[model]\nexperts = [8, \"8\"]\n"), "c.toml:2: model.experts is a string, expected an integer or a list of integers");
  EXPECT_NE(complaint("[model]\nexperts = []\n"), "");
  EXPECT_NE(complaint("[model]\nexperts = \"many\"\n"), "");
  EXPECT_NE(complaint("[model]\nmoe_every = 2\nmoe_offset = 2\n"), "");
}

TEST(TrainConfig, DeepNestingIsRefusedAndNotFollowed) {
  EXPECT_NE(complaint("a = " + std::string(100000, '[')), "");
  EXPECT_NE(complaint("a = " + std::string(100000, '{')), "");
}

TEST(TrainConfig, TheCommandLineHasTheLastWord) {
  const TrainConfig config =
      parse_config("[train]\nsteps = 5\n", "c.toml", {"train.steps=9", "run.dir=/tmp/x", "model.tied_embeddings=true"});
  EXPECT_EQ(config.train.steps, 9);
  EXPECT_EQ(config.run.dir, "/tmp/x");
  EXPECT_TRUE(config.model.tied_embeddings);
  EXPECT_NE(complaint("", {"steps=9"}), "");
  EXPECT_TRUE(complaint("", {"train.step=9"}).starts_with("--set train.step=9: train has no key \"step\""));
  EXPECT_EQ(complaint("", {"train.steps=many"}), "--set train.steps=many: train.steps is a string, expected an integer");
  EXPECT_NE(complaint("", {"train.steps=9\nx = 3"}), "");
  EXPECT_NE(complaint("", {"domain.name=a"}), "");
}

}  // namespace
}  // namespace moiety::train
