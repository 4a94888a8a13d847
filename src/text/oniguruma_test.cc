#include "text/oniguruma.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/regex.h"

namespace moiety::text {
namespace {

// "begin-end" of the first match.
std::string first_match(const std::string& pattern, std::string_view text) {
  RegexScratch scratch;
  const auto match = Regex(pattern).find(text, 0, scratch);
  return match ? fmt::format("{}-{}", match->begin, match->end) : "none";
}

TEST(Oniguruma, WhatBothUnderstandAlikeIsLeftAlone) {
  for (const char* pattern :
       {"'s|'t| ?\\p{L}+|[^\\r\\n]?+a++", "(?i:'re)|(?!x)(?<=y)z{2,3}", "[一-龥]+|\\[\\]a"})
    EXPECT_EQ(pcre2_from_oniguruma(pattern), pattern);
}

TEST(Oniguruma, WhiteSpaceIsUnicodesAndHasNoMongolianVowelSeparator) {
  EXPECT_EQ(first_match("\\s", "\u180e"), "none");
  EXPECT_EQ(first_match("[\\s]", "\u180e\u3000"), "3-6");
  EXPECT_EQ(first_match("\\S", "\u2028\u180e"), "3-6");
  EXPECT_EQ(first_match("[^\\s]+", " \u180e "), "1-4");
}

TEST(Oniguruma, WordCharactersIncludeMarks) {
  EXPECT_EQ(first_match("\\w+", "-e\u0301_5-"), "1-6");
  EXPECT_EQ(first_match("\\W+", "e\u0301-+"), "3-5");
  EXPECT_EQ(first_match("[\\w-]+", "e\u0301-+"), "0-4");
}

TEST(Oniguruma, HIsAHexadecimalDigit) {
  EXPECT_EQ(first_match("\\h+", "xyz1fG"), "3-5");
  EXPECT_EQ(first_match("[\\h-]+", "xyz1-f"), "3-6");
}

TEST(Oniguruma, AnIntervalWithAPlusRepeatsAndIsNotPossessive) {
  EXPECT_EQ(first_match("[0-9]{2}+", "12345"), "0-4");
  EXPECT_EQ(first_match("x(?:ab){1,2}+b", "xababababb"), "0-10");
  EXPECT_EQ(first_match("\\p{N}{1,3}+9", "123459"), "0-6");
}

TEST(Oniguruma, ClassesMayIntersect) {
  EXPECT_EQ(first_match("[\\p{L}&&[^\\p{Han}]]+", "中ab中"), "3-5");
  EXPECT_EQ(first_match("[a-z&&[^aeiou]]+", "aebcd"), "2-5");
  EXPECT_EQ(first_match("[^a-z&&[^aeiou]]+", "bcaeXd"), "2-5");
}

TEST(Oniguruma, ClassesMayHoldClasses) {
  EXPECT_EQ(first_match("[a[0-9]]+", "xa1a"), "1-4");
  EXPECT_EQ(first_match("[]a]+", "x]a"), "1-3");
  EXPECT_EQ(first_match("[[:punct:]]+", "a$,"), "1-3");
}

TEST(Oniguruma, CaretAndDollarAreTheEndsOfLines) {
  EXPECT_EQ(first_match("^b", "a\nb"), "2-3");
  EXPECT_EQ(first_match("a$", "a\nb"), "0-1");
}

TEST(Oniguruma, CodePointsByNumber) { EXPECT_EQ(first_match("\\u00e9", "ae\u00e9"), "2-4"); }

TEST(Oniguruma, WhatItCannotSayIsOneSentence) {
  for (const std::string pattern :
       {"[a", "a\\", "[a[^b]]", "[\\W]", "\\pL", "\\u12", "[[:alpha", "(", "a{1,2}{3", "*"}) {
    try {
      Regex regex(pattern);
      // "a{1,2}{3" is odd, but PCRE2 takes the brace for itself.
      EXPECT_EQ(pattern, "a{1,2}{3");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Input);
    }
  }
  EXPECT_THROW(Regex(std::string(1000, '[')), Error);
  EXPECT_THROW(Regex(std::string(1000, '(')), Error);
  EXPECT_THROW(Regex(std::string(100'000, 'a')), Error);
}

}  // namespace
}  // namespace moiety::text
