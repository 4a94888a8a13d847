#include "format/importance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "format/gguf.h"
#include "support/fixtures.h"

namespace moiety::format {
namespace {

// Two experts of three columns, of which the second saw nothing; and one matrix.
Importance example() {
  Importance importance;
  importance.tensors["blk.0.ffn_up_exps.weight"] = {{2, 4, 6, 0, 0, 0}, {2, 0}};
  importance.tensors["output.weight"] = {{5, 10}, {5}};
  importance.datasets = {"book.txt"};
  importance.chunks = 3;
  importance.chunk_tokens = 512;
  return importance;
}

TEST(Importance, WhatIsWrittenIsRead) {
  test::TemporaryFolder folder;
  const fs::path path = folder.path() / "importance.gguf";
  write_importance(path, example());
  const Importance back = read_importance(path);
  EXPECT_EQ(back.tensors.size(), 2u);
  EXPECT_EQ(back.tensors.at("blk.0.ffn_up_exps.weight").squares, example().tensors.at("blk.0.ffn_up_exps.weight").squares);
  EXPECT_EQ(back.tensors.at("blk.0.ffn_up_exps.weight").counts, (std::vector<double>{2, 0}));
  EXPECT_EQ(back.datasets, example().datasets);
  EXPECT_EQ(back.chunks, 3);
  EXPECT_EQ(back.chunk_tokens, 512);
}

// llama.cpp's tools/imatrix: ne of NAME.in_sum2 is [columns, matrices], of NAME.counts [1, matrices].
TEST(Importance, TheLayoutIsLlamaCpps) {
  test::TemporaryFolder folder;
  write_importance(folder.path() / "importance.gguf", example());
  const GgufFile file(folder.path() / "importance.gguf");
  EXPECT_EQ(file.metadata().text("general.type"), "imatrix");
  EXPECT_EQ(file.metadata().integer("imatrix.chunk_count"), 3);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "blk.0.ffn_up_exps.weight.in_sum2");
  EXPECT_EQ(file.tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensors()[1].name, "blk.0.ffn_up_exps.weight.counts");
  EXPECT_EQ(file.tensors()[1].shape, (std::vector<int64_t>{2, 1}));
}

TEST(Importance, MeansAreSumsByCounts) {
  const Importance importance = example();
  EXPECT_EQ(importance.of("output.weight", 0, 1, 2), (std::vector<float>{1, 2}));
  EXPECT_EQ(importance.of("blk.0.ffn_up_exps.weight", 0, 2, 3), (std::vector<float>{1, 2, 3}));
  EXPECT_TRUE(importance.of("token_embd.weight", 0, 1, 2).empty());
}

TEST(Importance, AnExpertThatSawNothingHasTheMeanOfTheOthers) {
  EXPECT_EQ(example().of("blk.0.ffn_up_exps.weight", 1, 2, 3), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(example().unvisited("blk.0.ffn_up_exps.weight"), (std::vector<size_t>{1}));
  EXPECT_TRUE(example().unvisited("output.weight").empty());
}

TEST(Importance, SumsOfAnotherModelAreRefused) {
  EXPECT_THROW(example().of("output.weight", 0, 1, 3), Error);
  EXPECT_THROW(example().of("output.weight", 0, 2, 2), Error);
}

std::vector<std::byte> old_form() {
  std::vector<std::byte> bytes;
  const auto put = [&](const void* data, size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + size);
  };
  const auto put_int = [&](int32_t value) { put(&value, 4); };
  put_int(1);
  put_int(13), put("output.weight", 13), put_int(4), put_int(2);
  const float values[2] = {4, 8};
  put(values, 8);
  put_int(7), put_int(8), put("book.txt", 8);
  return bytes;
}

TEST(Importance, TheOldFormIsReadToo) {
  const Importance importance = parse_importance(old_form(), "old.dat");
  EXPECT_EQ(importance.of("output.weight", 0, 1, 2), (std::vector<float>{1, 2}));
  EXPECT_EQ(importance.of("output.weight", 1, 2, 1), (std::vector<float>{2}));
  EXPECT_EQ(importance.chunks, 7);
  EXPECT_EQ(importance.datasets, std::vector<std::string>{"book.txt"});
}

TEST(Importance, EveryTruncationIsRefusedOrRead) {
  const auto bytes = old_form();
  for (size_t n = 0; n < bytes.size(); ++n) {
    try {
      parse_importance(std::span(bytes).first(n), "cut.dat");
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("cut.dat"));
    }
  }
}

TEST(Importance, NegativeOrEndlessSumsAreRefused) {
  for (const float bad : {-1.0f, INFINITY, NAN}) {
    auto bytes = old_form();
    std::memcpy(&bytes[4 + 4 + 13 + 8], &bad, 4);
    EXPECT_THROW(parse_importance(bytes, "bad.dat"), Error);
  }
}

}  // namespace
}  // namespace moiety::format
