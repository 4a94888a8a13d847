#include "runs/run.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include "runs/database.h"

namespace moiety::runs {
namespace {

using TrainingRun = runs::Run;  // in a test, Run is a function of GoogleTest's

class RunTest : public testing::Test {
 protected:
  RunTest() : folder_(fs::temp_directory_path() / fmt::format("moiety-runs-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "run");
  }
  ~RunTest() override { fs::remove_all(folder_); }

  void metrics(const std::string& text) const { write_file(folder_ / "run" / "metrics.jsonl", text); }
  TrainingRun read() const { return read_run(folder_ / "run"); }
  std::string complaint(const fs::path& folder) const {
    try {
      for (const fs::path& run : find_runs(folder)) read_run(run);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // The first column of the first row.
  std::string ask(const std::string& sql) const {
    sqlite3* database = nullptr;
    sqlite3_open((folder_ / "runs.sqlite").c_str(), &database);
    std::string answer;
    const auto keep = [](void* to, int, char** values, char**) {
      *static_cast<std::string*>(to) += values[0] == nullptr ? "null" : values[0];
      return 0;
    };
    char* wrong = nullptr;
    sqlite3_exec(database, sql.c_str(), keep, &answer, &wrong);
    if (wrong != nullptr) answer = wrong;
    sqlite3_free(wrong);
    sqlite3_close(database);
    return answer;
  }

  const fs::path folder_;
};

constexpr const char* kTwoSteps =
    "{\"step\":1,\"tokens\":100,\"seconds\":0.5,\"loss\":5.0,\"lr\":0.1}\n"
    "{\"step\":2,\"tokens\":200,\"seconds\":0.25,\"loss\":4.0,\"lr\":0.2,\"load\":[{\"max_over_mean\":2,\"entropy\":0.5,\"idle\":1},"
    "{\"max_over_mean\":4,\"entropy\":0.9,\"idle\":0}]}\n";
constexpr const char* kEnd =
    "{\"step\":2,\"final\":true,\"validation\":[{\"name\":\"a\",\"nats_per_token\":3,\"bits_per_byte\":2},"
    "{\"name\":\"b\",\"nats_per_token\":3,\"bits_per_byte\":1}]}\n";

TEST_F(RunTest, StepsAndScoresAreRead) {
  metrics(std::string(kTwoSteps) + kEnd);
  write_file(folder_ / "run" / "run.json", R"({"config": {"run.seed": 3}, "parameters": 9, "active_parameters": 4, "flops_per_token": 24})");
  const TrainingRun run = read();
  EXPECT_EQ(run.name, "run");
  EXPECT_TRUE(run.finished);
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_DOUBLE_EQ(run.last().seconds, 0.75);
  EXPECT_DOUBLE_EQ(run.load->max_over_mean, 3);
  EXPECT_DOUBLE_EQ(run.load->idle, 0.5);
  EXPECT_DOUBLE_EQ(run.validations.back().bits_per_byte(), 1.5);
  EXPECT_EQ(run.active_parameters, 4);
}

TEST_F(RunTest, WhatAKillCutShortIsPassedOver) {
  metrics(std::string(kTwoSteps) + "{\"step\":3,\"tokens\":300,\"se");
  const TrainingRun run = read();
  EXPECT_FALSE(run.finished);
  EXPECT_EQ(run.last().step, 2);
}

// Their time and their tokens are spent, their losses are no points of a curve.
TEST_F(RunTest, BadStepsStandApart) {
  metrics(std::string(kTwoSteps) + R"({"step":3,"tokens":300,"seconds":2,"loss":null,"bad":{"what":"loss is no number"}})" + "\n" +
          R"({"step":4,"tokens":400,"seconds":1,"loss":3})" + "\n");
  const TrainingRun run = read();
  ASSERT_EQ(run.steps.size(), 3u);
  ASSERT_EQ(run.bad.size(), 1u);
  EXPECT_EQ(run.bad[0].step, 3);
  EXPECT_DOUBLE_EQ(run.bad[0].seconds, 2.75);
  EXPECT_EQ(run.last().step, 4);
  EXPECT_DOUBLE_EQ(run.last().seconds, 3.75);
}

TEST_F(RunTest, RunsWithoutSecondsHaveThemFromTheirSpeed) {
  metrics("{\"step\":1,\"tokens\":100,\"tokens_per_s\":200,\"loss\":5}\n");
  EXPECT_DOUBLE_EQ(read().last().seconds, 0.5);
}

TEST_F(RunTest, WhatIsNoRunGetsASentence) {
  EXPECT_NE(complaint(folder_ / "none").find("no such folder"), std::string::npos);
  EXPECT_NE(complaint(folder_).find("neither a training run nor a folder of them"), std::string::npos);
  metrics("");
  EXPECT_NE(complaint(folder_ / "run").find("has not finished a step yet"), std::string::npos);
  metrics("[]\n{\"step\":\"one\"}\n{\"step\":1,\"tokens\":\"x\",\"loss\":1}\n\xff\n");
  EXPECT_NE(complaint(folder_ / "run").find("has not finished a step yet"), std::string::npos);
  metrics(kTwoSteps);
  EXPECT_EQ(complaint(folder_), "") << "a folder of runs";
  write_file(folder_ / "run" / "run.json", "{\"config\": 3}");
  EXPECT_NE(complaint(folder_).find("run.json"), std::string::npos);
}

TEST_F(RunTest, TheDatabaseHoldsEachRunOnce) {
  metrics(std::string(kTwoSteps) + kEnd);
  write_file(folder_ / "run" / "run.json", R"({"config": {"run.seed": 3, "model.score": "softmax"}, "flops_per_token": 24})");
  const std::vector<TrainingRun> runs{read()};
  write_database(folder_ / "runs.sqlite", runs);
  write_database(folder_ / "runs.sqlite", runs);
  EXPECT_EQ(ask("SELECT count(*) FROM runs"), "1");
  EXPECT_EQ(ask("SELECT count(*) FROM steps"), "2");
  EXPECT_EQ(ask("SELECT seed FROM runs"), "3");
  EXPECT_EQ(ask("SELECT flops FROM runs"), "4800.0");
  EXPECT_EQ(ask("SELECT parameters FROM runs"), "null");
  EXPECT_EQ(ask("SELECT avg(bits_per_byte) FROM scores WHERE final"), "1.5");
  EXPECT_EQ(ask("SELECT value FROM settings WHERE key = 'model.score'"), "softmax");
}

TEST_F(RunTest, AFileThatIsNoDatabaseIsLeftAlone) {
  metrics(kTwoSteps);
  const std::vector<TrainingRun> runs{read()};
  const std::string text(4096, 'x');
  write_file(folder_ / "runs.sqlite", text);
  EXPECT_THROW(write_database(folder_ / "runs.sqlite", runs), Error);
  EXPECT_EQ(read_file(folder_ / "runs.sqlite"), text);
  EXPECT_THROW(write_database(folder_ / "none" / "runs.sqlite", runs), Error);
}

TEST_F(RunTest, ADatabaseOfSomethingElseIsLeftAlone) {
  metrics(kTwoSteps);
  ask("CREATE TABLE recipes (cake TEXT)");
  EXPECT_THROW(write_database(folder_ / "runs.sqlite", std::vector<TrainingRun>{read()}), Error);
  EXPECT_EQ(ask("SELECT count(*) FROM sqlite_master"), "1");
}

}  // namespace
}  // namespace moiety::runs
