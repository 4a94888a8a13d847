#include "corpus/dedup.h"

#include <gtest/gtest.h>

namespace moiety::corpus {
namespace {

std::string long_paragraph(char letter) { return std::string(kParagraphBytes, letter) + "\n"; }

TEST(ParagraphDedup, KeepsTheFirstAndCutsTheOthers) {
  ParagraphDedup dedup;
  const std::string licence = long_paragraph('l');
  std::string first = licence + "\nint a;\n", second = licence + "\nint b;\n";
  EXPECT_EQ(dedup.cut_repeats(first), 0u);
  EXPECT_EQ(first, licence + "\nint a;\n");
  EXPECT_EQ(dedup.cut_repeats(second), licence.size() + 1);
  EXPECT_EQ(second, "int b;\n");
}

TEST(ParagraphDedup, ShortParagraphsMayRepeat) {
  ParagraphDedup dedup;
  std::string text = "return 0;\n\nreturn 0;\n\n" + std::string(kParagraphBytes - 2, 'x') + "\n";
  const std::string before = text;
  EXPECT_EQ(dedup.cut_repeats(text), 0u);
  EXPECT_EQ(dedup.cut_repeats(text), 0u);
  EXPECT_EQ(text, before);
}

TEST(ParagraphDedup, WithinOneTextToo) {
  ParagraphDedup dedup;
  std::string text = long_paragraph('a') + "\n\n" + long_paragraph('a') + "\n" +
                     long_paragraph('b') + "\n" + long_paragraph('a');
  dedup.cut_repeats(text);
  EXPECT_EQ(text, long_paragraph('a') + "\n\n" + long_paragraph('b'));
}

TEST(ParagraphDedup, NothingLeftIsEmpty) {
  ParagraphDedup dedup;
  std::string first = long_paragraph('a'), second = first;
  dedup.cut_repeats(first);
  dedup.cut_repeats(second);
  EXPECT_EQ(second, "");
}

TEST(HashSet, RemembersWhatWasInsertedZeroIncluded) {
  HashSet set;
  EXPECT_FALSE(set.slot(7));
  for (uint64_t i = 0; i < 100'000; ++i) EXPECT_TRUE(set.insert(i * i << 20 | i << 3));
  for (uint64_t i = 0; i < 100'000; ++i) EXPECT_FALSE(set.insert(i * i << 20 | i << 3));
  EXPECT_EQ(set.size(), 100'000u);
  EXPECT_TRUE(set.slot(0));
  EXPECT_FALSE(set.slot(5));
}

}  // namespace
}  // namespace moiety::corpus
