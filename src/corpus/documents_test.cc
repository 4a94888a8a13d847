#include "corpus/documents.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "corpus/scratch_folder.h"

namespace moiety::corpus {
namespace {

using Views = std::vector<std::string_view>;

TEST(SplitDocuments, TextWithoutSeparatorIsOneDocument) {
  EXPECT_EQ(split_documents("one\n\ntwo\n"), (Views{"one\n\ntwo\n"}));
}

TEST(SplitDocuments, ASeparatorAloneOnItsLineParts) {
  EXPECT_EQ(split_documents("one\n\x1e\ntwo\n"), (Views{"one\n", "two\n"}));
  EXPECT_EQ(split_documents("one\r\n\x1e\r\ntwo\r\n"), (Views{"one\r\n", "two\r\n"}));
}

TEST(SplitDocuments, ASeparatorWithinALineDoesNot) {
  EXPECT_EQ(split_documents("one\x1e\ntwo\n\x1e three\n"), (Views{"one\x1e\ntwo\n\x1e three\n"}));
}

TEST(SplitDocuments, BlankOnesAreLeftOut) {
  EXPECT_TRUE(split_documents("").empty());
  EXPECT_TRUE(split_documents("\x1e").empty());
  EXPECT_EQ(split_documents("\x1e\n\n \t\n\x1e\none\n\x1e\n\x1e"), (Views{"one\n"}));
}

TEST(SplitDocuments, ManySeparatorsTakeLinearTime) {
  std::string text(4 << 20, kSeparator);  // one line
  EXPECT_EQ(split_documents(text).size(), 1u);
  for (size_t i = 1; i < text.size(); i += 2) text[i] = '\n';
  EXPECT_TRUE(split_documents(text).empty());
}

TEST(IsText, NulsAndManyControlsAreNot) {
  EXPECT_TRUE(is_text(""));
  EXPECT_TRUE(is_text("plain\ttext\r\n\f\x1e\n"));
  EXPECT_TRUE(is_text("gr\xfc\xdf dich\n"));  // Latin-1 is wrong, but text
  EXPECT_FALSE(
      is_text(std::string_view("\x7f"
                               "ELF\0\0",
                               6)));
  EXPECT_FALSE(is_text("\x01\x02 one\n"));
}

TEST(ForEachDocument, ReadsAFolderInTheOrderOfPaths) {
  const ScratchFolder folder;
  folder.write("b.txt", "third");
  folder.write("a/z.txt", "first\n\x1e\nsecond");
  folder.write(".hidden/x.txt", "never");
  folder.write("a/.x.txt", "never");
  folder.write("c.bin", std::string_view("\0\0\0", 3));

  std::vector<std::string> documents;
  const Visited visited =
      for_each_document(folder.path(), [&](std::string_view d) { documents.emplace_back(d); });
  EXPECT_EQ(documents, (std::vector<std::string>{"first\n", "second", "third"}));
  EXPECT_EQ(visited.files, 3u);
  EXPECT_EQ(visited.not_text, 1u);
  EXPECT_EQ(visited.documents, 3u);
  EXPECT_EQ(visited.bytes, 17u);
}

TEST(ForEachDocument, ReadsASingleFile) {
  const ScratchFolder folder;
  folder.write("one.txt", "all of it\n");
  size_t bytes = 0;
  for_each_document(folder.path() / "one.txt", [&](std::string_view d) { bytes += d.size(); });
  EXPECT_EQ(bytes, 10u);
}

TEST(ForEachDocument, AMissingPathIsAnError) {
  EXPECT_THROW(for_each_document("/nowhere/at/all", [](std::string_view) {}), Error);
}

TEST(DomainOf, IsTheNameWithoutSplitAndEnding) {
  EXPECT_EQ(domain_of("text/german.valid.txt"), "german");
  EXPECT_EQ(domain_of("c-code.test.txt"), "c-code");
  EXPECT_EQ(domain_of("book.txt"), "book");
  EXPECT_EQ(domain_of("version-2.0.txt"), "version-2.0");
  EXPECT_EQ(domain_of("texts/"), "texts");
  EXPECT_EQ(domain_of(".txt"), ".txt");
}

}  // namespace
}  // namespace moiety::corpus
