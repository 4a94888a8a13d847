#include "train/prepare.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "format/tokenizer_json.h"
#include "text/tokenizer.h"

namespace moiety::train {
namespace {

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() : folder_(fs::temp_directory_path() / fmt::format("moiety-prepare-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    config_.run.dir = (folder_ / "run").string();
    config_.tokenizer.vocab_size = 300;
  }
  ~PrepareTest() override { fs::remove_all(folder_); }

  void add_domain(const std::string& name, const std::string& train, const std::string& valid = "") {
    write_file(folder_ / (name + ".txt"), train);
    DomainConfig domain{.name = name, .train = (folder_ / (name + ".txt")).string()};
    if (!valid.empty()) {
      write_file(folder_ / (name + ".valid.txt"), valid);
      domain.valid = (folder_ / (name + ".valid.txt")).string();
    }
    config_.domains.push_back(domain);
  }
  // The documents of a shard as text again.
  std::vector<std::string> documents(const PreparedData& data, const Shard& shard) const {
    const text::Tokenizer tokenizer(format::read_tokenizer_json(read_file(data.tokenizer), "tokenizer.json"));
    std::vector<std::string> texts;
    for (size_t d = 0; d < shard.num_documents(); ++d) {
      EXPECT_EQ(shard.token(shard.document_begin(d)), data.end_of_text);
      std::vector<int32_t> ids;
      for (uint64_t i = shard.document_begin(d) + 1; i < shard.document_end(d); ++i) ids.push_back(shard.token(i));
      texts.push_back(tokenizer.decode(ids, false));
    }
    return texts;
  }
  fs::file_time_type written(const char* name) const { return fs::last_write_time(folder_ / "run" / "data" / name); }

  fs::path folder_;
  TrainConfig config_;
};

TEST_F(PrepareTest, ShardsHoldTheDocumentsInTheirOrder) {
  add_domain("a", "first\n\x1e\nsecond thing\n\x1e\nthird\n", "held out\n");
  const PreparedData data = prepare_data(config_, 2);
  EXPECT_EQ(documents(data, *data.domains[0].train),
            (std::vector<std::string>{"first\n", "second thing\n", "third\n"}));
  EXPECT_EQ(documents(data, *data.domains[0].valid), (std::vector<std::string>{"held out\n"}));
  EXPECT_EQ(data.domains[0].train->info().text_bytes, 6u + 13u + 6u);
}

TEST_F(PrepareTest, WhatIsHeldOutIsNotTrainedOn) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += fmt::format("document number {}\n\x1e\n", i);
  add_domain("a", text);
  config_.validate.held_out = 0.1;
  const PreparedData data = prepare_data(config_, 2);
  const auto train = documents(data, *data.domains[0].train), valid = documents(data, *data.domains[0].valid);
  EXPECT_EQ(train.size() + valid.size(), 300u);
  EXPECT_GT(valid.size(), 10u);
  for (const std::string& document : valid) EXPECT_EQ(std::ranges::count(train, document), 0) << document;
}

TEST_F(PrepareTest, OneLongDocumentHasSomethingToHoldOutToo) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += fmt::format("line number {}\n", i);
  add_domain("a", text);
  const PreparedData data = prepare_data(config_, 2);
  EXPECT_EQ(data.domains[0].train->info().text_bytes + data.domains[0].valid->info().text_bytes, text.size());
}

TEST_F(PrepareTest, ShardsAreMadeAgainOnlyWhenTheTextChanges) {
  add_domain("a", "some text\n", "held out\n");
  add_domain("b", "other text\n", "held out too\n");
  prepare_data(config_, 2);
  const auto a = written("a.train.tokens"), b = written("b.train.tokens"), b_valid = written("b.valid.tokens");
  prepare_data(config_, 1);
  EXPECT_EQ(written("a.train.tokens"), a);

  write_file(folder_ / "b.valid.txt", "another held out\n");
  prepare_data(config_, 2);
  EXPECT_EQ(written("a.train.tokens"), a);
  EXPECT_EQ(written("b.train.tokens"), b);
  EXPECT_NE(written("b.valid.tokens"), b_valid);
}

TEST_F(PrepareTest, NoTextIsOneClearSentence) {
  EXPECT_THROW(prepare_data(config_, 1), Error);
  add_domain("a", "\n\n", "x\n");
  EXPECT_THROW(prepare_data(config_, 1), Error);
  config_.domains[0].train = (folder_ / "absent").string();
  EXPECT_THROW(prepare_data(config_, 1), Error);
}

TEST_F(PrepareTest, ATokenizerFileIsUsedAsItIs) {
  add_domain("a", "some text\n", "held out\n");
  const std::string made = read_file(prepare_data(config_, 1).tokenizer);
  write_file(folder_ / "tokenizer.json", made);
  config_.tokenizer.file = (folder_ / "tokenizer.json").string();
  config_.run.dir = (folder_ / "other").string();
  EXPECT_EQ(read_file(prepare_data(config_, 1).tokenizer), made);
  config_.tokenizer.end_of_text = "<absent>";
  EXPECT_THROW(prepare_data(config_, 1), Error);
}

}  // namespace
}  // namespace moiety::train
