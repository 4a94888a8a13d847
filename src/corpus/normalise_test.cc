#include "corpus/normalise.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "text/utf8.h"

namespace moiety::corpus {
namespace {

TEST(Normalise, LineEndsAndTrailingSpace) {
  EXPECT_EQ(normalise("one \t\r\ntwo\rthree"), "one\ntwo\nthree\n");
}

TEST(Normalise, KeepsIndentationAndAtMostTwoBlankLines) {
  EXPECT_EQ(normalise("\n\n  one\n \n\n\n\n\n\ttwo\n\nthree\n\n\n"), "  one\n\n\n\ttwo\n\nthree\n");
}

TEST(Normalise, BlankTextIsEmpty) {
  EXPECT_EQ(normalise(""), "");
  EXPECT_EQ(normalise(" \r\n\t\n\xef\xbb\xbf\n"), "");
}

TEST(Normalise, ComposesLetters) { EXPECT_EQ(normalise("Gru\xcc\x88n\n"), "Gr\xc3\xbcn\n"); }

TEST(Normalise, DropsControls) {
  EXPECT_EQ(normalise(std::string_view("a\0b\x1b[1mc\x1e\x7f\f\xc2\x85\xef\xbb\xbf", 16)),
            "ab[1mc\n");
}

TEST(Normalise, InvalidBytesBecomeReplacementCharacters) {
  EXPECT_EQ(normalise("a\xff\xc3z\xe2\x82"), "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\n");
}

TEST(Normalise, ADocumentCannotSmuggleInASeparator) {
  EXPECT_EQ(normalise("a\n\x1e\x1e\nb\n\x01\x1e\nc\n"), "a\n\nb\n\nc\n");
}

TEST(Normalise, OneEnormousLine) {
  const std::string line(8 << 20, 'x');
  EXPECT_EQ(normalise(line), line + "\n");
  // Marks in the wrong order, so that all must be sorted.
  std::string marks = "e";
  for (int i = 0; i < 1 << 18; ++i) marks += "\xcc\x81\xcc\xa3";
  EXPECT_EQ(normalise(normalise(marks)), normalise(marks));
}

// Bytes that are more likely than chance to make a line end, a control, a mark, or half a
// character.
std::string hostile_text(const std::vector<int>& picks) {
  static const std::string_view kPieces[] = {
      "a",    " ",    "\t",       "\n",           "\r",          "\r\n", "\x1e",
      "\x01", "\xc3", "\xcc\x88", "\xe1\x84\x80", "\xef\xbb",    "\xbf", "u",
      "\xff", "\x7f", "\xc2\x85", "\xe1\x85\xa1", "\xe2\x84\xab"};
  std::string text;
  for (const int pick : picks) text += kPieces[static_cast<size_t>(pick) % std::size(kPieces)];
  return text;
}

void expect_normal(const std::string& text) {
  const std::string once = normalise(text);
  RC_ASSERT(normalise(once) == once);
  RC_ASSERT(text::is_valid_utf8(once));
  RC_ASSERT(once.empty() ||
            (once.ends_with('\n') && !once.ends_with("\n\n") && !once.starts_with('\n')));
  RC_ASSERT(once.find("\n\n\n\n") == once.npos);
  RC_ASSERT(once.find(" \n") == once.npos);
  RC_ASSERT(once.find('\x1e') == once.npos);
}

TEST(Normalise, IsIdempotentOnAnyBytes) {
  EXPECT_TRUE(rc::check([](const std::string& bytes) { expect_normal(bytes); }));
  EXPECT_TRUE(rc::check([](const std::vector<uint8_t>& picks) {
    expect_normal(hostile_text({picks.begin(), picks.end()}));
  }));
}

}  // namespace
}  // namespace moiety::corpus
