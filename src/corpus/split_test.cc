#include "corpus/split.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

namespace moiety::corpus {
namespace {

std::vector<SplitItem> items_of(uint32_t domain, int count, size_t bytes) {
  std::vector<SplitItem> items;
  for (int i = 0; i < count; ++i)
    items.push_back({domain, hash_key(fmt::format("page-{}.txt", i)), bytes, {}});
  return items;
}

size_t bytes_in(std::span<const SplitItem> items, std::span<const Split> splits, uint32_t domain,
                Split split) {
  size_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].domain == domain && splits[i] == split) bytes += items[i].bytes;
  }
  return bytes;
}

TEST(FileKey, TranslationsOfAPageShareIt) {
  EXPECT_EQ(file_key("man/de/ls.1.txt"), file_key("man/fr/ls.1.txt"));
  EXPECT_EQ(file_key("a/index.de.html"), file_key("b/index.pt-BR.html"));
  EXPECT_EQ(file_key("guide_es.txt"), "guide.txt");
  EXPECT_EQ(file_key("guide-zh_CN.txt"), "guide.txt");
}

TEST(FileKey, ExtensionsAndOtherWordsStay) {
  EXPECT_EQ(file_key("main.pl"), "main.pl");
  EXPECT_EQ(file_key("kernel/sched/core.c"), "core.c");
  EXPECT_EQ(file_key("de.txt"), "de.txt");
  EXPECT_EQ(file_key("made.txt"), "made.txt");
  EXPECT_EQ(file_key("x_of.txt"), "x_of.txt");
  EXPECT_EQ(file_key("README"), "README");
}

TEST(DocumentKey, DoesNotDependOnThePlaceInTheFile) {
  EXPECT_EQ(document_key("set.mm", "axiom one\n"), document_key("set.mm", "axiom one\n"));
  EXPECT_NE(document_key("set.mm", "axiom one\n"), document_key("set.mm", "axiom two\n"));
}

TEST(AssignSplits, SharesAreAboutWhatWasAskedFor) {
  const auto items = items_of(0, 20'000, 1000);
  const auto splits = assign_splits(items, {});
  EXPECT_NEAR(bytes_in(items, splits, 0, Split::Test), 200e3, 50e3);
  EXPECT_NEAR(bytes_in(items, splits, 0, Split::Valid), 400e3, 70e3);
}

TEST(AssignSplits, StayWhenDocumentsAreAdded) {
  const auto few = items_of(0, 10'000, 1000), more = items_of(0, 15'000, 1000);
  const auto before = assign_splits(few, {});
  const auto after = assign_splits(more, {});
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
}

TEST(AssignSplits, ASmallDomainHoldsOutEnough) {
  const auto items = items_of(0, 500, 4000);  // 2 % would be 40 kB
  const auto splits = assign_splits(items, {});
  EXPECT_GE(bytes_in(items, splits, 0, Split::Valid), 100'000u);
  EXPECT_LE(bytes_in(items, splits, 0, Split::Valid), 130'000u);
}

TEST(AssignSplits, AVerySmallDomainHoldsOutATenth) {
  const auto items = items_of(0, 100, 1000);
  const auto splits = assign_splits(items, {});
  EXPECT_GE(bytes_in(items, splits, 0, Split::Valid), 10'000u);
  EXPECT_LE(bytes_in(items, splits, 0, Split::Valid), 15'000u);
}

TEST(AssignSplits, SomethingIsLeftToTrainOn) {
  EXPECT_EQ(assign_splits(items_of(0, 1, 10'000), {}), (std::vector{Split::Train}));
  const auto items = items_of(0, 2, 10'000);
  const auto splits = assign_splits(items, {});
  EXPECT_EQ(bytes_in(items, splits, 0, Split::Train), 10'000u);
  EXPECT_EQ(bytes_in(items, splits, 0, Split::Valid), 10'000u);
}

TEST(AssignSplits, NoValidShareMeansNone) {
  const auto items = items_of(0, 100, 1000);
  const auto splits = assign_splits(items, {.test_share = 0, .valid_share = 0});
  EXPECT_EQ(bytes_in(items, splits, 0, Split::Train), 100'000u);
}

TEST(AssignSplits, PinnedDocumentsGoWhereTheyArePinned) {
  auto items = items_of(0, 100, 1000);
  items[3].pinned = Split::Test;
  items[4].pinned = Split::Train;
  const auto splits = assign_splits(items, {});
  EXPECT_EQ(splits[3], Split::Test);
  EXPECT_EQ(splits[4], Split::Train);
}

// A large domain holds out 2 %, a small one more: what the small one holds out, no other may train
// on.
TEST(AssignSplits, AKeyHasOneSplitInAllDomains) {
  EXPECT_TRUE(rc::check([](const std::vector<uint8_t>& sizes) {
    std::vector<SplitItem> items;
    for (size_t d = 0; d < sizes.size(); ++d) {
      const auto more = items_of(static_cast<uint32_t>(d), 1 + sizes[d] * 8, 1000);
      items.insert(items.end(), more.begin(), more.end());
    }
    const auto splits = assign_splits(items, {});
    std::map<uint64_t, Split> split_of;
    for (size_t i = 0; i < items.size(); ++i) {
      RC_ASSERT(split_of.emplace(items[i].key_hash, splits[i]).first->second == splits[i]);
    }
  }));
}

}  // namespace
}  // namespace moiety::corpus
