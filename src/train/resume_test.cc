// Runs moiety-train itself, kills it, and holds what it goes on to do against a run that nobody disturbed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"

namespace moiety::train {
namespace {

constexpr int kSteps = 60;

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() : folder_(fs::temp_directory_path() / fmt::format("moiety-resume-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::string text;
    Random random(1);
    const char* words[] = {"one ", "two ", "three ", "and ", "then ", "more\n", "end.\n\x1e\n"};
    for (int i = 0; i < 20000; ++i) text += words[random.below(7)];
    write_file(folder_ / "text.txt", text);
    std::string toml = read_file(MOIETY_SOURCE_DIR "/recipes/tiny.toml");
    const std::string was = "\"docs\"";
    toml.replace(toml.find(was), was.size(), "\"" + (folder_ / "text.txt").string() + "\"");
    write_file(folder_ / "tiny.toml", toml);
  }
  ~ResumeTest() override { fs::remove_all(folder_); }

  // Starts moiety-train in the run folder `name`; its sentences go to `name`.log.
  pid_t start(const std::string& name, int steps = kSteps, const std::vector<std::string>& settings = {}) const {
    const std::string dir = (folder_ / name).string(), log = dir + ".log";
    std::vector<std::string> arguments{MOIETY_TRAIN_PROGRAM, (folder_ / "tiny.toml").string()};
    for (const std::string& setting :
         {"run.dir=" + dir, std::string("run.threads=1"), std::string("checkpoint.every=7"),
          fmt::format("train.steps={}", steps), std::string("train.accumulate=2"),
          std::string("balance.bias_rate=0.001"), std::string("validate.every=20")}) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    const pid_t child = ::fork();
    if (child == 0) {
      const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
      ::dup2(fd, STDOUT_FILENO);
      ::dup2(fd, STDERR_FILENO);
      std::vector<char*> raw;
      for (std::string& argument : arguments) raw.push_back(argument.data());
      raw.push_back(nullptr);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    return child;
  }

  static int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string log(const std::string& name) const { return read_file(folder_ / (name + ".log")); }

  size_t steps_written(const std::string& name) const {
    const fs::path path = folder_ / name / "metrics.jsonl";
    if (!fs::exists(path)) return 0;
    const std::string text = read_file(path);
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  static bool has_ended(pid_t child) {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child;
  }
  // Kills the child once it has written `lines` more lines than are there, unless it comes to its end before.
  void kill_after(const std::string& name, pid_t child, size_t lines, int signal) const {
    const size_t enough = steps_written(name) + lines;
    while (steps_written(name) < enough && !has_ended(child)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::kill(child, signal);
  }

  // What must not depend on interruptions.
  std::vector<std::string> losses(const std::string& name) const {
    std::vector<std::string> lines;
    const std::string text = read_file(folder_ / name / "metrics.jsonl");
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
      Json line = Json::parse(text.substr(begin, end - begin));
      line.erase("seconds");
      line.erase("tokens_per_s");
      lines.push_back(line.dump());
    }
    return lines;
  }
  std::string model(const std::string& name) const {
    return read_file(folder_ / name / "checkpoints" / fmt::format("step-{:08}", kSteps) / "model.safetensors");
  }

  void kill_and_compare(const std::vector<std::string>& settings, int most_kills) const;

  fs::path folder_;
};

void ResumeTest::kill_and_compare(const std::vector<std::string>& settings, int most_kills) const {
  ASSERT_EQ(wait_for(start("whole", kSteps, settings)), 0) << log("whole");

  Random random(static_cast<uint64_t>(::getpid()));
  int kills = 0;
  for (; kills < most_kills; ++kills) {
    const pid_t child = start("killed", kSteps, settings);
    // The pause lands the kill anywhere: between steps, or while a checkpoint is written.
    kill_after("killed", child, 1 + random.below(14), SIGKILL);
    if (wait_for(child) == 0) break;
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(3000)));
  }
  EXPECT_GT(kills, 0);
  ASSERT_EQ(wait_for(start("killed", kSteps, settings)), 0) << log("killed");

  EXPECT_TRUE(losses("killed") == losses("whole"));
  EXPECT_TRUE(model("killed") == model("whole"));
}

// One expert until step 15, then four copies; from four experts a token to two, and a temperature that falls, while the experts
// of the first steps don't fit the budget.
TEST_F(ResumeTest, SoDoesARunWhoseRoutingChangesOverItsSteps) {
  kill_and_compare({"anneal.spawn_step=15", "anneal.experts_from=4", "anneal.experts_steps=30", "anneal.lower_later=0.5",
                    "anneal.temperature_from=3", "anneal.temperature_steps=25", "train.receive_budget=400", "train.receive_sets=2"}, 3);
  EXPECT_NE(read_file(folder_ / "whole" / "metrics.jsonl").find("\"reruns\""), std::string::npos);
  const Json config = parse_json(
      read_file(folder_ / "whole" / "checkpoints" / fmt::format("step-{:08}", kSteps) / "config.json"), "config.json");
  EXPECT_NE(config.dump().find("\"experts_per_token\":2"), std::string::npos);
}

TEST_F(ResumeTest, SoDoesARunThatSearchesForTheOrderOfItsExperts) {
  kill_and_compare({"anneal.search_steps=40", "anneal.spawn_step=5", "anneal.search_temperature=0.05", "schedule.warmup=5", "optimizer.lr=0.01",
                    "optimizer.state=int8"}, 3);
  // They did change places, and no more once it was over.
  int64_t moved = 0;
  for (const std::string& line : losses("whole")) moved += Json::parse(line).value("moved", int64_t{0});
  EXPECT_GT(moved, 0);
  EXPECT_EQ(losses("whole").back().find("\"moved\""), std::string::npos);
}

// Thresholds so low that steps of a healthy run are bad: what is usual goes on from the checkpoint, and so do rolls back.
TEST_F(ResumeTest, SoDoesARunWithBadSteps) {
  kill_and_compare({"bad_steps.policy=roll_back", "bad_steps.back=3", "bad_steps.norm=0.001", "bad_steps.window=20", "bad_steps.most=19",
                    "optimizer.lr=0.03", "schedule.warmup=5"}, 4);
  std::string all;
  for (const std::string& line : losses("whole")) all += line;
  EXPECT_NE(all.find("\"back_to\""), std::string::npos);
}

TEST_F(ResumeTest, KilledAtAnyMomentARunEndsWithTheSameBits) { kill_and_compare({}, 4); }

TEST_F(ResumeTest, SoItDoesWithStateInAFileAndLayersMadeAgain) {
  kill_and_compare({"optimizer.offload=ssd", "optimizer.group=4000", "train.recompute=layers", "train.round_tokens=16"}, 2);
  // Nothing is left of the file, and its bits are those of state in memory.
  for (const auto& entry : fs::directory_iterator(folder_ / "killed")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".optimizer-state"));
  }
  ASSERT_EQ(wait_for(start("plain", kSteps, {"train.round_tokens=16"})), 0) << log("plain");
  EXPECT_TRUE(losses("plain") == losses("whole"));
  EXPECT_TRUE(model("plain") == model("whole"));
}

TEST_F(ResumeTest, SoItDoesWithExpertsThatKeepAState) {
  kill_and_compare({"model.gru_experts=2", "model.gru_hidden=20", "model.experts_per_token=1", "train.recompute=layers"}, 2);
}

// Weights that are kept packed are packed anew.
TEST_F(ResumeTest, SoItDoesInBf16WithClustersOfTokens) {
  kill_and_compare({"train.precision=bf16", "train.cluster_tokens=0.5", "train.accumulate=2"}, 2);
}

TEST_F(ResumeTest, SoItDoesWithStateInEightBits) {
  kill_and_compare({"optimizer.state=int8", "optimizer.offload=ssd", "optimizer.group=4000"}, 2);
}

TEST_F(ResumeTest, SoItDoesWithFactoredState) { kill_and_compare({"optimizer.state=factored"}, 2); }

TEST_F(ResumeTest, ASignalEndsARunWithACheckpointAndAWayOn) {
  const pid_t child = start("run", 100000);
  kill_after("run", child, 10, SIGINT);
  EXPECT_EQ(wait_for(child), 130);
  EXPECT_NE(log("run").find("the same command goes on"), std::string::npos) << log("run");
}

TEST_F(ResumeTest, AFinishedRunSaysSoAndADamagedCheckpointIsPassedOver) {
  ASSERT_EQ(wait_for(start("run")), 0) << log("run");
  ASSERT_EQ(wait_for(start("run")), 0) << log("run");
  EXPECT_NE(log("run").find("The run is complete"), std::string::npos) << log("run");

  const std::vector<std::string> before = losses("run");
  const fs::path newest = folder_ / "run" / "checkpoints" / fmt::format("step-{:08}", kSteps) / "model.safetensors";
  std::string bytes = read_file(newest);
  bytes[bytes.size() / 2] ^= 1;
  write_file(newest, bytes);
  ASSERT_EQ(wait_for(start("run")), 0) << log("run");
  EXPECT_TRUE(losses("run") == before);
}

}  // namespace
}  // namespace moiety::train
