#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/test_support.h"

namespace moiety::text {
namespace {

TEST(Utf8, ReadsCharactersOfEveryLength) {
  const std::string text = "aé中🙂";
  EXPECT_EQ(utf8_char(text, 0).code, U'a');
  EXPECT_EQ(utf8_char(text, 1).code, U'é');
  EXPECT_EQ(utf8_char(text, 3).code, U'中');
  EXPECT_EQ(utf8_char(text, 6).code, U'🙂');
  EXPECT_EQ(utf8_char(text, 6).bytes, 4u);
}

TEST(Utf8, EachMaximalInvalidPartBecomesOneReplacementCharacter) {
  // The Unicode standard's own example (table 3-8) and its neighbours.
  EXPECT_EQ(replace_invalid("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"), "a���b�c��d");
  EXPECT_EQ(replace_invalid("\xc0\xaf"), "��");            // overlong
  EXPECT_EQ(replace_invalid("\xed\xa0\x80"), "���");       // a surrogate
  EXPECT_EQ(replace_invalid("\xf4\x90\x80\x80"), "����");  // past U+10FFFF
  EXPECT_EQ(replace_invalid("\xf0\x9f\x99"), "�");         // cut off
  EXPECT_EQ(replace_invalid("\xe4\xb8\xe4\xb8\xad"), "�中");
}

TEST(Utf8, ValidTextIsLeftAlone) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = random_text(seed, 50);
    EXPECT_TRUE(is_valid_utf8(text));
    EXPECT_EQ(replace_invalid(text), text);
  }
}

TEST(Utf8, WhatIsRepairedIsValid) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string bytes = random_bytes(seed, 50);
    EXPECT_TRUE(is_valid_utf8(replace_invalid(bytes)));
    EXPECT_EQ(is_valid_utf8(bytes), replace_invalid(bytes) == bytes);
  }
}

TEST(Utf8, WhiteSpaceIsUnicodes) {
  for (const char32_t c : {U' ', U'\t', U'\r', U'\u0085', U'\u00a0', U'\u2028', U'\u3000'})
    EXPECT_TRUE(is_white_space(c));
  for (const char32_t c : {U'a', U'\u180e', U'\u200b', U'\ufeff'}) EXPECT_FALSE(is_white_space(c));
}

TEST(Utf8, WordCharactersAreLettersMarksDigitsAndConnectors) {
  for (const char32_t c : {U'a', U'é', U'中', U'5', U'_', U'\u0301', U'\u24b6', U'\u2160'})
    EXPECT_TRUE(is_word(c));
  for (const char32_t c : {U' ', U'-', U'½', U'🙂', U'<'}) EXPECT_FALSE(is_word(c));
}

}  // namespace
}  // namespace moiety::text
