#include "corpus/overlap.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <string>

namespace moiety::corpus {
namespace {

// count words from `first` on
std::string words(int first, int count) {
  std::string text;
  for (int i = first; i < first + count; ++i) text += fmt::format("word{} ", i);
  return text;
}

TEST(OverlapCheck, IsTheShareOfSequencesInTraining) {
  const std::string held_out = words(0, 112);  // 100 sequences of 13
  OverlapCheck check({held_out});
  check.see_training_text(words(0, 62));  // has 50 of them
  EXPECT_DOUBLE_EQ(check.shares()[0], 0.5);
}

TEST(OverlapCheck, CaseAndSpacingDoNotCount) {
  const std::string held_out = words(0, 30);
  std::string shouted;
  for (const char c : held_out)
    shouted += c == ' ' ? std::string("\n\t ") : std::string(1, static_cast<char>(std::toupper(c)));
  OverlapCheck check({held_out});
  check.see_training_text(shouted);
  EXPECT_DOUBLE_EQ(check.shares()[0], 1.0);
}

TEST(OverlapCheck, TwelveWordsInCommonAreNone) {
  const std::string held_out = words(0, 100);
  OverlapCheck check({held_out});
  for (int i = 0; i < 100; i += 12) check.see_training_text(words(i, 12));
  EXPECT_DOUBLE_EQ(check.shares()[0], 0.0);
}

TEST(OverlapCheck, OrderCounts) {
  const std::string held_out = "a b c d e f g h i j k l m";
  OverlapCheck check({held_out});
  check.see_training_text("b a c d e f g h i j k l m");
  EXPECT_DOUBLE_EQ(check.shares()[0], 0.0);
  check.see_training_text("x a b c d e f g h i j k l m y");
  EXPECT_DOUBLE_EQ(check.shares()[0], 1.0);
}

TEST(OverlapCheck, ShortAndEmptyTextsHaveNone) {
  OverlapCheck check({"", "one two three"});
  check.see_training_text("one two three");
  EXPECT_EQ(check.shares(), (std::vector<double>{0.0, 0.0}));
}

}  // namespace
}  // namespace moiety::corpus
