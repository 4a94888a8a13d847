#include "corpus/corpus.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "corpus/documents.h"
#include "corpus/scratch_folder.h"

namespace moiety::corpus {
namespace {

// Text of about `bytes` that shares no paragraph or 13 words with that of another number.
std::string prose(int number, size_t bytes) {
  std::string text = fmt::format("Document {}\n\n", number);
  for (int i = 0; text.size() < bytes; ++i)
    text += fmt::format("{}w{}{}", number, i, i % 12 == 11 ? "\n" : " ");
  return text + "\n";
}

void write_pages(const ScratchFolder& raw, std::string_view domain, int count) {
  for (int i = 0; i < count; ++i)
    raw.write(fmt::format("{}/page-{}.txt", domain, i),
              prose(i + (domain == "b" ? 1000 : 0), 3000));
}

std::set<std::string> documents_of(const ScratchFolder& out, const fs::path& name) {
  const std::string text = out.read(name);
  std::set<std::string> documents;
  for (const std::string_view document : split_documents(text)) documents.emplace(document);
  return documents;
}

TEST(BuildCorpus, EveryDocumentIsInOneSplit) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 200);
  const CorpusReport report = build_corpus(raw.path(), out.path(), {});
  size_t documents = 0;
  std::set<std::string> all;
  for (const Split split : kSplits) {
    const auto part = documents_of(out, fmt::format("a.{}.txt", split_name(split)));
    documents += part.size();
    all.insert(part.begin(), part.end());
    EXPECT_EQ(part.size(), report.domains[0].splits[static_cast<size_t>(split)].documents);
    EXPECT_FALSE(part.empty());
  }
  EXPECT_EQ(documents, 200u);
  EXPECT_EQ(all.size(), 200u);
}

TEST(BuildCorpus, SameInputSameBytes) {
  const ScratchFolder raw, one, two;
  write_pages(raw, "a", 50);
  write_pages(raw, "b", 50);
  build_corpus(raw.path(), one.path(), {.cap_bytes = 100'000});
  build_corpus(raw.path(), two.path(), {.cap_bytes = 100'000});
  for (const char* name :
       {"a.train.txt", "a.valid.txt", "b.train.txt", "b.test.txt", "manifest.json"}) {
    EXPECT_EQ(one.read(name), two.read(name)) << name;
  }
}

TEST(BuildCorpus, TranslationsOfAPageShareASplit) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 300);
  write_pages(raw, "b", 60);
  build_corpus(raw.path(), out.path(), {});
  const auto page_numbers = [&](const char* name, int from) {
    std::set<int> numbers;
    for (const std::string& document : documents_of(out, name))
      numbers.insert(std::stoi(document.substr(9)) - from);
    return numbers;
  };
  const auto train_a = page_numbers("a.train.txt", 0), valid_a = page_numbers("a.valid.txt", 0);
  for (const int page : page_numbers("b.valid.txt", 1000))
    EXPECT_TRUE(valid_a.contains(page)) << page;
  for (const int page : page_numbers("b.train.txt", 1000))
    EXPECT_TRUE(train_a.contains(page)) << page;
}

TEST(BuildCorpus, TheCapTakesAcrossFiles) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 100);
  write_pages(raw, "b", 100);
  CorpusOptions options{.cap_bytes = 60'000};
  options.cap_bytes_of["b"] = 120'000;
  const CorpusReport report = build_corpus(raw.path(), out.path(), options);
  std::vector<double> bytes;
  for (const DomainReport& domain : report.domains) {
    bytes.push_back(0);
    for (const SourceReport& source : domain.sources)
      bytes.back() += static_cast<double>(source.bytes);
  }
  EXPECT_LE(bytes[0], 60'000);
  EXPECT_GE(bytes[0], 56'000);
  EXPECT_LE(bytes[1], 120'000);
  EXPECT_GE(bytes[1], 116'000);
  EXPECT_GT(report.domains[0].documents_capped, 75u);
}

TEST(BuildCorpus, ParagraphsSeenInAnEarlierDomainAreCut) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 20);
  write_pages(raw, "b", 20);
  const std::string licence = std::string(250, 'L') + "\n";
  raw.write("a/licensed.txt", licence + "\n" + prose(5000, 1000));
  raw.write("b/licensed.txt", licence + "\n" + prose(5001, 1000));
  const CorpusReport report =
      build_corpus(raw.path(), out.path(), {.split = {.test_share = 0, .valid_share = 0}});
  EXPECT_NE(out.read("a.train.txt").find(licence), std::string::npos);
  EXPECT_EQ(out.read("b.train.txt").find(licence), std::string::npos);
  EXPECT_EQ(report.domains[1].bytes_repeated, licence.size() + 1);
}

TEST(BuildCorpus, HeldOutTextThatTrainingHasIsDropped) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 60);
  // The same words in other lines, so that no paragraph is the same.
  std::string copy = prose(7, 3000);
  for (char& c : copy) c = c == '\n' ? ' ' : c;
  raw.write("a/held.txt", copy);
  raw.write("splits.tsv", "held\tvalid\npage-7\ttrain\n");
  const CorpusReport report = build_corpus(raw.path(), out.path(), {});
  EXPECT_EQ(report.domains[0].documents_overlap, 1u);
  for (const std::string& document : documents_of(out, "a.valid.txt"))
    EXPECT_FALSE(document.starts_with("Document 7 "));
}

TEST(BuildCorpus, SplitsCanBePinned) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 40);
  raw.write("splits.tsv", "page-11\ttest\npage-12\ttest\n");
  build_corpus(raw.path(), out.path(), {.split = {.test_share = 0}});
  EXPECT_EQ(documents_of(out, "a.test.txt").size(), 2u);
}

TEST(BuildCorpus, HostileBytesAreSkippedOrMended) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 10);
  raw.write("a/program", std::string(5000, '\0'));
  raw.write("a/latin.txt",
            "\xfc"
            "ber" +
                std::string(300, 'x'));
  raw.write("a/line.txt", std::string(3 << 20, 'y'));
  raw.write("a/empty.txt", "");
  raw.write("a/tricks.txt", prose(99, 500) + "\x01\x1e\n" + prose(98, 500));
  const CorpusReport report =
      build_corpus(raw.path(), out.path(), {.split = {.test_share = 0, .valid_share = 0}});
  EXPECT_EQ(report.domains[0].files_not_text, 1u);
  EXPECT_EQ(documents_of(out, "a.train.txt").size(), 13u);
  EXPECT_NE(out.read("a.train.txt")
                .find("\xef\xbf\xbd"
                      "ber"),
            std::string::npos);
}

TEST(BuildCorpus, TheManifestNamesPackagesAndHashes) {
  const ScratchFolder raw, out;
  write_pages(raw, "a", 30);
  raw.write("packages.tsv", "some-text\t1.0-1\tabc\n");
  build_corpus(raw.path(), out.path(), {});
  const Json manifest = parse_json(out.read("manifest.json"), "manifest.json");
  EXPECT_EQ(manifest["packages"][0]["version"], "1.0-1");
  EXPECT_EQ(manifest["domains"][0]["train"]["file"], "a.train.txt");
  EXPECT_EQ(manifest["domains"][0]["train"]["bytes"], out.read("a.train.txt").size());
  EXPECT_EQ(manifest["domains"][0]["train"]["xxh64"].get<std::string>().size(), 16u);
}

std::string error_of(const fs::path& raw, const fs::path& out, const CorpusOptions& options = {}) {
  try {
    build_corpus(raw, out, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(BuildCorpus, ErrorsSayWhatIsWrong) {
  const ScratchFolder out;
  EXPECT_NE(error_of("/nowhere/at/all", out.path()).find("/nowhere/at/all: no such folder"),
            std::string::npos);
  {
    const ScratchFolder raw;
    raw.write("loose.txt", "text");
    EXPECT_NE(error_of(raw.path(), out.path()).find("no folders in it"), std::string::npos);
  }
  {
    const ScratchFolder raw;
    raw.write("empty/program", std::string_view("\0", 1));
    EXPECT_NE(
        error_of(raw.path(), out.path()).find("empty: no text in it (1 files, 1 of them not text)"),
        std::string::npos);
  }
  {
    const ScratchFolder raw;
    raw.write("a/tiny.txt", "tiny\n");
    EXPECT_NE(error_of(raw.path(), out.path()).find("domain a: nothing left"), std::string::npos);
  }
  {
    const ScratchFolder raw;
    write_pages(raw, "a", 3);
    EXPECT_NE(error_of(raw.path(), raw.path() / "out").find("would be read as a domain"),
              std::string::npos);
    raw.write("splits.tsv", "page-1\tdev\n");
    EXPECT_NE(error_of(raw.path(), out.path()).find("page-1 is to be in dev"), std::string::npos);
    raw.write("splits.tsv", "page-1 test\n");
    EXPECT_NE(error_of(raw.path(), out.path()).find("line 1 has 1 fields"), std::string::npos);
    raw.write("splits.tsv", "");
    EXPECT_NE(error_of(raw.path(), out.path(), {.cap_bytes = 10}).find("larger than its cap"),
              std::string::npos);
    EXPECT_NE(error_of(raw.path(), out.path(), {.cap_bytes_of = {{"b", 10}}}).find("cap for b"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace moiety::corpus
