#include "corpus/synthetic.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "corpus/documents.h"
#include "corpus/scratch_folder.h"

namespace moiety::corpus {
namespace {

// Solves a question by other means than the generator made it.
std::string solve(const std::string& question) {
  int a = 0, b = 0;
  char key = 0;
  if (std::sscanf(question.c_str(), "%d + %d =", &a, &b) == 2) return " " + std::to_string(a + b);
  if (const size_t get = question.find("get "); std::sscanf(question.c_str() + std::min(get, question.size()), "get %c :", &key) == 1) {
    return std::string(" ") + question[question.find(std::string{key, '='}) + 2];
  }
  const size_t begin = question.find(' '), end = question.rfind(" :");
  const std::string body = question.substr(begin, end - begin);
  if (question.starts_with("copy")) return body;
  // Brackets: strike out what closes, until nothing does.
  std::string open;
  for (const char c : body) {
    if (c == ' ') continue;
    const bool closes = !open.empty() && std::string("() [] {} <>").find(std::string{open.back(), c}) != std::string::npos;
    if (closes) {
      open.pop_back();
    } else {
      open += c;
    }
  }
  std::string answer;
  for (; !open.empty(); open.pop_back()) answer += std::string(" ") + std::string(")]}>")[std::string("([{<").find(open.back())];
  return answer;
}

RC_GTEST_PROP(Synthetic, TheAnswerIsRightAndTheOthersAreNot, (uint64_t seed, bool probe)) {
  Random random(seed);
  for (const std::string_view kind : synthetic_kinds()) {
    const Use use = probe ? Use::Probe : Use::Train;
    const Instance instance = make_instance(kind, use, random);
    RC_ASSERT(instance.answer == solve(instance.question));
    RC_ASSERT(use_of(instance.question) == use);
    RC_ASSERT(instance.wrong.size() + 1 == size_t{kChoices});
    const std::set<std::string> all(instance.wrong.begin(), instance.wrong.end());
    RC_ASSERT(all.size() == instance.wrong.size() && !all.contains(instance.answer));
    for (const std::string& wrong : all) RC_ASSERT(wrong.size() == instance.answer.size());
  }
}

// Each kind has enough of both, and what is trained on with any seed is never asked with another.
TEST(Synthetic, WhatIsTrainedOnIsNeverAsked) {
  for (const std::string_view kind : synthetic_kinds()) {
    std::set<std::string> trained, asked;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      Random train(seed), probe(seed);
      for (int i = 0; i < 300; ++i) {
        trained.insert(make_instance(kind, Use::Train, train).question);
        asked.insert(make_instance(kind, Use::Probe, probe).question);
      }
      const std::string shots = few_shots(kind, 4, probe);
      for (size_t begin = 0; begin < shots.size(); begin = shots.find('\n', begin) + 1) {
        trained.insert(shots.substr(begin, shots.find_first_of(":=", shots.find(kind == "recall" ? "get" : " ", begin)) + 1 - begin));
      }
    }
    for (const std::string& question : trained) EXPECT_FALSE(asked.contains(question)) << question;
    EXPECT_GT(asked.size(), 500u) << kind;
  }
}

TEST(Synthetic, TheSameSeedWritesTheSameText) {
  const ScratchFolder one, two, other;
  const std::vector<std::string> kinds{"copy", "recall"};
  write_synthetic(one.path(), kinds, {.bytes = 20'000, .seed = 5});
  write_synthetic(two.path(), kinds, {.bytes = 20'000, .seed = 5});
  write_synthetic(other.path(), kinds, {.bytes = 20'000, .seed = 6});
  EXPECT_EQ(one.read("copy.train.txt"), two.read("copy.train.txt"));
  EXPECT_NE(one.read("copy.train.txt"), other.read("copy.train.txt"));
  EXPECT_NE(one.read("copy.train.txt").substr(0, 50), one.read("copy.valid.txt").substr(0, 50));
  const std::string text = one.read("recall.train.txt");
  EXPECT_GE(text.size(), 20'000u);
  for (const std::string_view document : split_documents(text)) EXPECT_EQ(std::ranges::count(document, '\n'), 16);
  EXPECT_FALSE(fs::exists(one.path() / "arithmetic.train.txt"));
}

}  // namespace
}  // namespace moiety::corpus
