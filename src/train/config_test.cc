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

TEST(TrainConfig, WhatIsSmallIsNotOffloaded) {
  EXPECT_EQ(complaint("[optimizer]\nstate = \"factored\"\noffload = \"ssd\"\n"),
            "c.toml: optimizer.offload is \"ssd\", expected \"none\" with optimizer.state \"factored\"");
  EXPECT_EQ(complaint("[optimizer]\nstate = \"int4\"\n"),
            "c.toml:2: optimizer.state is \"int4\", expected one of \"f32\", \"int8\", \"factored\"");
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
