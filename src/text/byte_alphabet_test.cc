#include "text/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

namespace moiety::text {
namespace {

TEST(ByteAlphabet, GivesEveryByteItsOwnCharacter) {
  std::set<char32_t> chars;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t c = printable_char(static_cast<uint8_t>(byte));
    chars.insert(c);
    EXPECT_EQ(byte_of(c), static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(chars.size(), 256u);
}

TEST(ByteAlphabet, IsTheOneThatVocabulariesAreWrittenIn) {
  EXPECT_EQ(to_printable(" the\n"), "ĠtheĊ");
  EXPECT_EQ(to_printable("é"), "Ã©");
  EXPECT_EQ(to_printable(std::string("\0\x7f\xff", 3)), "Āġÿ");
  EXPECT_EQ(from_printable("ĠtheĊ"), " the\n");
}

TEST(ByteAlphabet, HasNoBytesForOtherCharacters) {
  EXPECT_EQ(from_printable("a b"), std::nullopt);
  EXPECT_EQ(from_printable("中"), std::nullopt);
  EXPECT_EQ(from_printable("\xff"), std::nullopt);
}

}  // namespace
}  // namespace moiety::text
