#include "runs/compare.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "runs/table.h"

namespace moiety::runs {
namespace {

using TrainingRun = runs::Run;  // in a test, Run is a function of GoogleTest's

// Steps of 100 tokens and 2 seconds; the loss of step i is 1 / i times `height`.
TrainingRun falling_run(std::string name, int64_t steps, double height, double flops_per_token = 10) {
  TrainingRun run{.path = name, .name = name, .config = {{"optimizer.lr", 0.1}}, .flops_per_token = flops_per_token};
  for (int64_t i = 1; i <= steps; ++i) {
    run.steps.push_back({i, 100.0 * static_cast<double>(i), 2.0 * static_cast<double>(i), height / static_cast<double>(i)});
  }
  return run;
}

TEST(Compare, TheLossAtABudgetIsTheMeanOfItsLastTwentieth) {
  const TrainingRun run = falling_run("a", 200, 1);
  // 5 % of 10,000 tokens are the 5 steps 96 to 100.
  double mean = 0;
  for (int i = 96; i <= 100; ++i) mean += 1.0 / i / 5;
  EXPECT_NEAR(*loss_at(run, Axis::Tokens, 10'000), mean, 1e-12);
  EXPECT_NEAR(*loss_at(run, Axis::Seconds, 200), mean, 1e-12);
  EXPECT_NEAR(*loss_at(run, Axis::Flops, 100'000), mean, 1e-12);
}

TEST(Compare, ABudgetThatARunDoesNotReachHasNoLoss) {
  const TrainingRun run = falling_run("a", 10, 1);
  EXPECT_FALSE(loss_at(run, Axis::Tokens, 1'001));
  EXPECT_FALSE(loss_at(run, Axis::Tokens, 0));
  EXPECT_FALSE(loss_at(run, Axis::Tokens, 50)) << "half a step";
  EXPECT_DOUBLE_EQ(*loss_at(run, Axis::Tokens, 150), 1.0);
}

TEST(Compare, EqualBudgetsAreWhatAllHaveReached) {
  const std::vector<TrainingRun> runs{falling_run("short", 10, 1, 50), falling_run("long", 40, 1, 10)};
  const Budgets budgets = common_budgets(runs);
  EXPECT_EQ(budgets.tokens, 1'000);
  EXPECT_EQ(budgets.seconds, 20);
  EXPECT_EQ(budgets.flops, 40'000) << "the long one's: a token costs it a fifth";
  EXPECT_EQ(common_budget(std::vector<TrainingRun>{falling_run("old", 10, 1, 0), runs[1]}, Axis::Flops), 0) << "one doesn't say";
}

TEST(Compare, RunsThatDifferInTheirSeedAreOneConfiguration) {
  std::vector<TrainingRun> runs;
  for (const int experts : {8, 16}) {
    for (const int seed : {1, 2, 3}) {
      TrainingRun run = falling_run("r", 20, (experts == 8 ? 3.0 : 2.0) + seed);
      run.config["model.experts"] = experts;
      run.config["run.seed"] = seed;
      run.config["run.dir"] = fmt::format("{}-{}", experts, seed);
      runs.push_back(run);
    }
  }
  const auto groups = group_runs(runs, common_budgets(runs));
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].label, "experts 16") << "the lower loss comes first";
  EXPECT_EQ(groups[0].runs, (std::vector<size_t>{3, 4, 5}));
  const Summary loss = groups[0].summary(&Figures::loss_at_tokens);
  EXPECT_EQ(loss.count, 3u);
  EXPECT_NEAR(loss.mean, (3 + 4 + 5) / 3.0 / 20, 1e-12);
  EXPECT_NEAR(loss.deviation, 1.0 / 20, 1e-12);
}

TEST(Compare, RunsThatSayNothingOfThemselvesStandAlone) {
  std::vector<TrainingRun> runs{falling_run("a", 20, 2), falling_run("b", 20, 1)};
  for (TrainingRun& run : runs) run.config = Json::object();
  const auto groups = group_runs(runs, common_budgets(runs));
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].label, "b");
}

TEST(Compare, BitsPerByteDecideIfAllHaveThem) {
  std::vector<TrainingRun> runs{falling_run("a", 20, 2), falling_run("b", 20, 1)};
  runs[1].config["model.experts"] = 3;
  for (size_t i = 0; i < 2; ++i) {
    runs[i].finished = true;
    runs[i].validations = {{20, true, {{"x", 1, 1.0 + static_cast<double>(i)}, {"y", 1, 2.0}}}};
  }
  auto groups = group_runs(runs, common_budgets(runs));
  EXPECT_EQ(groups[0].runs, std::vector<size_t>{0});
  EXPECT_DOUBLE_EQ(groups[0].summary(&Figures::bits_per_byte).mean, 1.5);
  runs[0].finished = false;  // the mean of a part of the text is no result
  groups = group_runs(runs, common_budgets(runs));
  EXPECT_EQ(groups[0].runs, std::vector<size_t>{1});
}

TEST(Compare, TheTableSaysWhatIsNotKnown) {
  const std::vector<TrainingRun> runs{falling_run("a", 20, 2, 0)};
  const Budgets budgets = common_budgets(runs);
  const std::string table = comparison_table(runs, group_runs(runs, budgets), budgets);
  EXPECT_NE(table.find("a: not finished: 20 steps so far"), table.npos) << table;
  const Json json = comparison_json(runs, group_runs(runs, budgets), budgets);
  EXPECT_FALSE(json["configurations"][0].contains("loss_at_equal_flops"));
  EXPECT_EQ(json["configurations"][0]["loss_at_equal_tokens"]["runs"], 1);
}

RC_GTEST_PROP(Compare, TheSpreadIsThatOfASample, (const std::vector<int16_t>& integers)) {
  const std::vector<double> values(integers.begin(), integers.end());
  const Summary summary = summarise(values);
  double pairs = 0;  // half the mean squared difference of two of them
  for (const double a : values) {
    for (const double b : values) pairs += (a - b) * (a - b);
  }
  const auto n = static_cast<double>(values.size());
  const double variance = values.size() > 1 ? pairs / (2 * n * (n - 1)) : 0;
  RC_ASSERT(std::abs(summary.deviation * summary.deviation - variance) <= 1e-9 * (1 + variance));
}

}  // namespace
}  // namespace moiety::runs
