#include "text/regex.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moiety::text {
namespace {

TEST(Regex, FindsTheFirstMatchFromAPlaceOn) {
  RegexScratch scratch;
  const Regex regex("a+");
  const auto match = regex.find("xaay aaa", 2, scratch);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->begin, 2u);
  EXPECT_EQ(match->end, 3u);
  EXPECT_FALSE(regex.find("xaa", 3, scratch));
}

TEST(Regex, LooksBehindThePlaceItStartsFrom) {
  RegexScratch scratch;
  EXPECT_TRUE(Regex("(?<=x)a").find("xa", 1, scratch));
}

TEST(Regex, AnExpressionThatExplodesGivesUpWithASentence) {
  RegexScratch scratch;
  const Regex regex("(a|aa)+[bd]");
  EXPECT_THROW(regex.find(std::string(10'000, 'a') + "c", 0, scratch), Error);
}

TEST(Regex, ALongMatchWithMuchToRememberIsFound) {
  RegexScratch scratch;
  const std::string text(300'000, 'a');
  const auto match = Regex("(?:a|b)+c?").find(text, 0, scratch);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->end, text.size());
}

}  // namespace
}  // namespace moiety::text
