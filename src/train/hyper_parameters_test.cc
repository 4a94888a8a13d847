#include "train/hyper_parameters.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "train/plan.h"
#include "train/run_record.h"
#include "train/step_law.h"

namespace moiety::train {
namespace {

double nobody_asks() {
  ADD_FAILURE() << "a run given in steps needs no clock";
  return 0;
}

Chosen choose(const TrainConfig& config, const std::function<double()>& speed = nobody_asks) {
  return choose_hyper_parameters(config, model_spec(config, 1000, 0), speed);
}

TEST(HyperParameters, WhatIsConfiguredStays) {
  TrainConfig config;
  config.optimizer.lr = 0.0123;
  config.train.batch = 3;
  config.train.accumulate = 5;
  const Chosen chosen = choose(config);
  EXPECT_EQ(chosen.lr, 0.0123);
  EXPECT_EQ(chosen.batch, 3);
  EXPECT_EQ(chosen.accumulate, 5);
  const TrainConfig settled = with_chosen(config, {.lr = 1, .batch = 1, .accumulate = 1});
  EXPECT_EQ(print_config(settled), print_config(config));
}

TEST(HyperParameters, TheLearningRateIsTheLawsToTwoDigits) {
  TrainConfig config;
  config.train.steps = 1000;
  config.train.batch = 8;
  const auto parameters = static_cast<double>(parameters_without_embeddings(model_spec(config, 1000, 0)));
  EXPECT_NEAR(choose(config).lr / step_law(parameters, 1000 * 8 * 256).lr, 1, 0.05);
  const double digits = choose(config).lr * 1e4;  // lr lies between 0.001 and 0.01 here
  EXPECT_NEAR(digits, std::round(digits), 1e-9);
}

// The law says for the tokens of the run about what the run has a step: half a sequence of rounding.
TEST(HyperParameters, TheBatchFitsTheRunsOwnTokens) {
  for (const int64_t steps : {10, 300, 2'000, 20'000}) {
    TrainConfig config;
    config.train.steps = steps;
    const Chosen chosen = choose(config);
    const double batch = static_cast<double>(chosen.batch * chosen.accumulate * config.train.sequence);
    EXPECT_EQ(chosen.tokens, batch * static_cast<double>(steps));
    EXPECT_LE(chosen.batch * config.train.sequence, kMostTokensAPass + config.train.sequence);
    EXPECT_LE(std::abs(batch - step_law_batch(static_cast<double>(steps))), 0.5 * static_cast<double>(config.train.sequence * (chosen.accumulate + 1)))
        << steps;
  }
}

TEST(HyperParameters, ARunInMinutesHasItsTokensFromItsSpeed) {
  TrainConfig config;
  config.train.minutes = 10;
  const Chosen chosen = choose(config, [] { return 5000.0; });
  EXPECT_EQ(chosen.tokens, 5000.0 * 600);
  const double batch = static_cast<double>(chosen.batch * chosen.accumulate * config.train.sequence);
  EXPECT_NEAR(batch, step_law(1, 3e6).batch_tokens, 0.5 * static_cast<double>(config.train.sequence));
}

TEST(HyperParameters, EmbeddingsDoNotCount) {
  TrainConfig config;
  const int64_t few = parameters_without_embeddings(model_spec(config, 300, 0));
  EXPECT_EQ(parameters_without_embeddings(model_spec(config, 30000, 0)), few);
  config.model.tied_embeddings = true;
  EXPECT_EQ(parameters_without_embeddings(model_spec(config, 300, 0)), few);
}

TEST(HyperParameters, APlanReadsBackAsItWasWritten) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("moiety-plan-{}", ::getpid());
  fs::create_directories(folder);
  EXPECT_EQ(read_plan(folder).steps, 0);
  write_plan(folder, {.steps = 7, .seconds_per_step = 0.25, .chosen = Chosen{0.0037, 6, 2, 1e6}});
  const Plan plan = read_plan(folder);
  EXPECT_EQ(plan.steps, 7);
  ASSERT_TRUE(plan.chosen);
  EXPECT_EQ(plan.chosen->lr, 0.0037);
  EXPECT_EQ(plan.chosen->batch, 6);
  EXPECT_EQ(plan.chosen->accumulate, 2);
  fs::remove_all(folder);
}

// One layer, width 4, one head of 2, two of three experts of 5 hidden units, 10 tokens, untied.
TEST(RunRecord, FlopsOfAModelThatCanBeCountedByHand) {
  TrainConfig config;
  config.model = {.layers = 1, .width = 4, .heads = 1, .kv_heads = 1, .head_dim = 2, .experts = 3, .experts_per_token = 2, .expert_hidden = 5};
  config.model.qk_norm = "none";
  const spec::ModelSpec spec = model_spec(config, 10, 0);
  const double norms = 3 * 4, attention = 4 * (4 * 2), router = 3 * 4, experts = 2 * 3 * 4 * 5, head = 10 * 4;
  const double scores_and_values = 2 * 2 * 2 * (1 + 2 + 3 + 4) / 4.0;  // a sequence of 4: the mean of what a token sees
  EXPECT_DOUBLE_EQ(training_flops_per_token(spec, 4), 3 * (2 * (norms + attention + router + experts + head) + scores_and_values));
}

}  // namespace
}  // namespace moiety::train
