#include "train/sweep.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace moiety::train {
namespace {

std::vector<Trial> trials_of(const std::vector<std::string>& texts) {
  std::vector<Axis> axes;
  for (const std::string& text : texts) axes.push_back(parse_axis(text));
  return grid(axes);
}

std::string complaint(const std::vector<std::string>& texts) {
  try {
    trials_of(texts);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Usage);
    return error.what();
  }
  return "";
}

TEST(Sweep, EveryCombinationStandsOnce) {
  const auto trials = trials_of({"optimizer.lr=0.003,0.006", "run.seed=1,2,3"});
  ASSERT_EQ(trials.size(), 6u);
  EXPECT_EQ(trials[0].name, "lr=0.003,seed=1");
  EXPECT_EQ(trials[1].name, "lr=0.003,seed=2");
  EXPECT_EQ(trials[5].overrides, (std::vector<std::string>{"optimizer.lr=0.006", "run.seed=3"}));
  std::set<std::string> names;
  for (const Trial& trial : trials) names.insert(trial.name);
  EXPECT_EQ(names.size(), 6u);
}

TEST(Sweep, KeysBetweenColonsChangeTogether) {
  const auto trials = trials_of({"model.experts:model.expert_hidden=8:256,64:32"});
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[1].overrides, (std::vector<std::string>{"model.experts=64", "model.expert_hidden=32"}));
  EXPECT_EQ(trials[1].name, "experts=64,expert_hidden=32");
}

TEST(Sweep, CommasInListsAndQuotesPartNothing) {
  const auto trials = trials_of({"model.sizes=[8,16],[4,4]", "tokenizer.file=\"a,b/c:d\""});
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[0].overrides[0], "model.sizes=[8,16]");
  EXPECT_EQ(trials[0].name, "sizes=[8,16],file=a,b-c:d") << "a folder's name has no slash";
}

TEST(Sweep, KeysThatEndInTheSameWordAreNamedInFull) {
  EXPECT_EQ(trials_of({"validate.every=5", "checkpoint.every=7"})[0].name, "validate.every=5,checkpoint.every=7");
}

TEST(Sweep, MistakesGetASentence) {
  EXPECT_NE(complaint({"optimizer.lr"}).find("expected section.key=value,value"), std::string::npos);
  EXPECT_NE(complaint({"lr=1,2"}).find("\"lr\" is no section.key"), std::string::npos);
  EXPECT_NE(complaint({"optimizer.lr=1,,2"}).find("a value is missing"), std::string::npos);
  EXPECT_NE(complaint({"optimizer.lr="}).find("a value is missing"), std::string::npos);
  EXPECT_NE(complaint({"a.b:c.d=1:2,3"}).find("\"3\" has 1 values for 2 keys"), std::string::npos);
  EXPECT_NE(complaint({"run.dir=a,b"}).find("folder of its own"), std::string::npos);
  EXPECT_NE(complaint({"a.b=1", "a.b=2"}).find("a.b stands twice"), std::string::npos);
  EXPECT_NE(complaint({"a.b=1,1"}).find("two runs would be called \"b=1\""), std::string::npos);
  std::string many = "a.b=0", more = "c.d=0";
  for (int i = 1; i < 200; ++i) {
    many += "," + std::to_string(i);
    more += "," + std::to_string(i);
  }
  EXPECT_NE(complaint({many, more}).find("more than 10000 runs"), std::string::npos);
}

}  // namespace
}  // namespace moiety::train
