#include "format/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "format/gguf_pre_tokenizers.h"

namespace moiety::format {
namespace {

using spec::PreTokenizer;
using spec::TokenizerSpec;
using Texts = std::vector<std::string>;

GgufMetadata small_metadata() {
  GgufMetadata metadata;
  metadata.where = "model.gguf";
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string("gpt-2"));
  metadata.set("tokenizer.ggml.tokens", Texts{"<s>", "a", "b", "ab", "<u>", "[PAD5]"});
  metadata.set("tokenizer.ggml.token_type", std::vector<int64_t>{3, 1, 1, 1, 4, 5});
  metadata.set("tokenizer.ggml.merges", Texts{"a b"});
  metadata.set("tokenizer.ggml.bos_token_id", int64_t{0});
  metadata.set("tokenizer.ggml.eos_token_id", int64_t{0});
  return metadata;
}

std::string error_of(const GgufMetadata& metadata) {
  try {
    read_gguf_tokenizer(metadata);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    return error.what();
  }
  return "";
}

TEST(GgufTokenizer, ReadsTokensTypesAndMerges) {
  const TokenizerSpec spec = read_gguf_tokenizer(small_metadata());
  EXPECT_EQ(spec.tokens, (Texts{"<s>", "a", "b", "ab", "<u>", ""}));
  ASSERT_EQ(spec.added.size(), 2u);
  EXPECT_TRUE(spec.added[0].special);
  EXPECT_FALSE(spec.added[1].special);
  EXPECT_EQ(spec.merges[0].result, 3);
  EXPECT_TRUE(spec.prefix.empty());
  EXPECT_TRUE(spec.pre_tokenizers[0].use_regex);
}

TEST(GgufTokenizer, ReadsWhatIsPutAroundTheText) {
  GgufMetadata metadata = small_metadata();
  metadata.set("tokenizer.ggml.add_bos_token", true);
  metadata.set("tokenizer.ggml.add_eos_token", true);
  EXPECT_EQ(read_gguf_tokenizer(metadata).prefix, std::vector<int32_t>{0});
  EXPECT_EQ(read_gguf_tokenizer(metadata).suffix, std::vector<int32_t>{0});

  // Llama 3's files are meant to begin with it even if they don't say so.
  metadata = small_metadata();
  metadata.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  EXPECT_EQ(read_gguf_tokenizer(metadata).prefix, std::vector<int32_t>{0});
  EXPECT_TRUE(read_gguf_tokenizer(metadata).ignore_merges);
}

TEST(GgufTokenizer, EveryNameIsFoundAgainFromItsSteps) {
  for (const char* name : {"gpt-2", "olmo", "qwen2", "stablelm2", "llama-bpe", "dbrx", "gpt-4o",
                           "tekken", "starcoder", "command-r", "falcon", "default", "deepseek-llm",
                           "deepseek-coder", "deepseek-v3", "bailingmoe"}) {
    const GgufPreTokenizer* row = find_gguf_pre_tokenizer(name);
    ASSERT_NE(row, nullptr) << name;
    TokenizerSpec spec{.ignore_merges = row->ignore_merges,
                       .normalizers = row->normalizers,
                       .pre_tokenizers = row->steps};
    EXPECT_STREQ(gguf_pre_tokenizer_of(spec)->name, name);
  }
  EXPECT_EQ(find_gguf_pre_tokenizer("no such"), nullptr);
}

TEST(GgufTokenizer, PlainByteLevelIsGpt2) {
  TokenizerSpec spec{.pre_tokenizers = {PreTokenizer{}}};
  EXPECT_STREQ(gguf_pre_tokenizer_of(spec)->name, "gpt-2");
  spec.normalizers = {{.form = spec::NormalForm::Nfkc}};
  EXPECT_EQ(gguf_pre_tokenizer_of(spec), nullptr);
  spec = {.pre_tokenizers = {{.use_regex = false}}};
  EXPECT_EQ(gguf_pre_tokenizer_of(spec), nullptr);
}

TEST(GgufTokenizer, LineEndsInPatternsMayBeEscapedOrNot) {
  TokenizerSpec spec{.pre_tokenizers = find_gguf_pre_tokenizer("dbrx")->steps};
  std::string& pattern = spec.pre_tokenizers[0].pattern;
  for (size_t at; (at = pattern.find("\\r\\n")) != std::string::npos;)
    pattern.replace(at, 4, "\r\n");
  EXPECT_STREQ(gguf_pre_tokenizer_of(spec)->name, "dbrx");
}

TEST(GgufTokenizer, WritesWhatItReads) {
  TokenizerSpec spec = read_gguf_tokenizer(small_metadata());
  spec.prefix = {0};
  GgufMetadata written;
  written.where = "out.gguf";
  add_gguf_tokenizer(spec, 8, 0, {4, 0}, written);
  EXPECT_EQ(written.text("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(written.texts("tokenizer.ggml.tokens"),
            (Texts{"<s>", "a", "b", "ab", "<u>", "[PAD5]", "[PAD6]", "[PAD7]"}));
  EXPECT_EQ(written.integers("tokenizer.ggml.token_type"),
            (std::vector<int64_t>{3, 1, 1, 1, 4, 5, 5, 5}));
  EXPECT_EQ(written.texts("tokenizer.ggml.merges"), Texts{"a b"});
  EXPECT_EQ(written.integer("tokenizer.ggml.eos_token_id"), 4);
  EXPECT_TRUE(written.boolean("tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(written.boolean("tokenizer.ggml.add_eos_token"));
  const TokenizerSpec again = read_gguf_tokenizer(written);
  EXPECT_EQ(again.prefix, spec.prefix);
  EXPECT_EQ(again.tokens.size(), 8u);
  EXPECT_EQ(again.added.size(), 2u);
}

TEST(GgufTokenizer, WhatGgufCannotSayIsAnError) {
  const TokenizerSpec good = read_gguf_tokenizer(small_metadata());
  const auto write = [](const TokenizerSpec& spec, int vocab_size = 6, int bos = -1) {
    GgufMetadata metadata;
    metadata.where = "out.gguf";
    add_gguf_tokenizer(spec, vocab_size, bos, {}, metadata);
  };
  EXPECT_NO_THROW(write(good));
  EXPECT_THROW(write(good, 5), Error);
  TokenizerSpec spec = good;
  spec.prefix = {0, 1};
  EXPECT_THROW(write(spec), Error);
  spec.prefix = {1};
  EXPECT_THROW(write(spec, 6, 0), Error);
  EXPECT_NO_THROW(write(spec));
  spec = good;
  spec.tokens[3] = "a b";
  spec.merges = {{3, 1, 2}};
  EXPECT_THROW(write(spec), Error);
  spec = good;
  spec.pre_tokenizers = {{.add_prefix_space = true}};
  EXPECT_THROW(write(spec), Error);
}

TEST(GgufTokenizer, LiesAreRefused) {
  const auto error_with = [](const char* key, GgufValue value) {
    GgufMetadata metadata = small_metadata();
    metadata.set(std::string("tokenizer.ggml.") + key, std::move(value));
    return error_of(metadata);
  };
  EXPECT_EQ(error_of(small_metadata()), "");
  EXPECT_NE(error_with("model", std::string("rwkv")).find("\"rwkv\""), std::string::npos);
  EXPECT_NE(error_with("model", std::string("llama")).find("scores"), std::string::npos);
  EXPECT_NE(error_with("pre", std::string("telepathy")).find("telepathy"), std::string::npos);
  EXPECT_NE(error_with("tokens", Texts{"a"}), "");
  EXPECT_NE(error_with("tokens", int64_t{3}), "");
  EXPECT_NE(error_with("token_type", std::vector<int64_t>{1}), "");
  EXPECT_NE(error_with("merges", Texts{"ab"}), "");
  EXPECT_NE(error_with("merges", Texts{""}), "");
  EXPECT_NE(error_with("merges", Texts{"a z"}), "");
  EXPECT_NE(error_with("merges", Texts{"b a"}), "");
  GgufMetadata metadata = small_metadata();
  metadata.set("tokenizer.ggml.add_bos_token", true);
  metadata.set("tokenizer.ggml.bos_token_id", int64_t{6});
  EXPECT_NE(error_of(metadata), "");
  metadata.set("tokenizer.ggml.bos_token_id", int64_t{-1});
  EXPECT_NE(error_of(metadata), "");
}

}  // namespace
}  // namespace moiety::format
