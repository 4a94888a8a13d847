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
            "c.toml:2: balance has no key \"aux\"; it knows aux_loss, bias_rate, z_loss");
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
