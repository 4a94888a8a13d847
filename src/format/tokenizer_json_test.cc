#include "format/tokenizer_json.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/json.h"

namespace moiety::format {
namespace {

using spec::PreTokenizer;
using spec::TokenizerSpec;

// A valid file, to be bent.
Json small_file() {
  return parse_json(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true},
      {"id": 7, "content": "ab", "single_word": true, "lstrip": true, "rstrip": false, "normalized": true, "special": false}
    ],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
      "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ġa": 3, "Ġab": 4}, "merges": ["Ġ a", "Ġa b"]}})",
                    "small");
}

TokenizerSpec read(const Json& file) { return read_tokenizer_json(file.dump(), "tokenizer.json"); }

// The sentence that reading throws.
std::string error_of(const std::string& text) {
  try {
    read_tokenizer_json(text, "tokenizer.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    EXPECT_EQ(std::string_view(error.what()).substr(0, 14), "tokenizer.json");
    return error.what();
  }
  return "";
}
std::string error_of(const Json& file) { return error_of(file.dump()); }

TEST(TokenizerJson, ReadsVocabularyMergesAndAddedTokens) {
  const TokenizerSpec spec = read(small_file());
  EXPECT_EQ(spec.tokens, (std::vector<std::string>{"a", "b", "Ġ", "Ġa", "Ġab", "<s>", "", "ab"}));
  ASSERT_EQ(spec.merges.size(), 2u);
  EXPECT_EQ(spec.merges[1].left, 3);
  EXPECT_EQ(spec.merges[1].right, 1);
  EXPECT_EQ(spec.merges[1].result, 4);
  ASSERT_EQ(spec.added.size(), 2u);
  EXPECT_TRUE(spec.added[0].special && spec.added[0].rstrip && !spec.added[0].lstrip);
  EXPECT_TRUE(spec.added[1].single_word && spec.added[1].lstrip && spec.added[1].normalized);
  ASSERT_EQ(spec.pre_tokenizers.size(), 1u);
  EXPECT_TRUE(spec.pre_tokenizers[0].use_regex);
}

TEST(TokenizerJson, MergesMayBePairs) {
  Json file = small_file();
  file["model"]["merges"] = Json::array({Json::array({"Ġ", "a"}), Json::array({"Ġa", "b"})});
  EXPECT_EQ(read(file).merges[1].result, 4);
}

TEST(TokenizerJson, KeysMayComeInAnyOrder) {
  const std::string text = R"({"model": {"merges": ["a b"], "vocab": {"ab": 2, "b": 1, "a": 0}},
    "pre_tokenizer": {"use_regex": false, "type": "ByteLevel"}})";
  const TokenizerSpec spec = read_tokenizer_json(text, "tokenizer.json");
  EXPECT_EQ(spec.merges[0].result, 2);
  EXPECT_FALSE(spec.pre_tokenizers[0].use_regex);
  EXPECT_TRUE(spec.pre_tokenizers[0].add_prefix_space);  // the library's default
}

TEST(TokenizerJson, ReadsNormalizers) {
  Json file = small_file();
  file["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(read(file).normalizers, std::vector{spec::Normalizer{}});
  file["normalizer"] =
      parse_json(R"({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Sequence",
    "normalizers": [{"type": "NFC"}]}]})",
                 "x");
  EXPECT_EQ(read(file).normalizers, (std::vector<spec::Normalizer>{{.form = spec::NormalForm::Nfkd},
                                                                   {.form = spec::NormalForm::Nfc}}));
}

TEST(TokenizerJson, ReadsPreTokenizers) {
  Json file = small_file();
  file["pre_tokenizer"] = parse_json(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": "MergedWithNext", "invert": true},
    {"type": "Split", "pattern": {"String": "a.b"}, "behavior": "Removed", "invert": false},
    {"type": "Digits", "individual_digits": false}, {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})",
                                     "x");
  const auto steps = read(file).pre_tokenizers;
  ASSERT_EQ(steps.size(), 5u);
  EXPECT_EQ(steps[0].pattern, "\\d");
  EXPECT_EQ(steps[0].behavior, PreTokenizer::Behavior::MergedWithNext);
  EXPECT_TRUE(steps[0].invert);
  EXPECT_EQ(steps[1].pattern, "a\\.b");
  EXPECT_EQ(steps[2].kind, PreTokenizer::Kind::Digits);
  EXPECT_FALSE(steps[2].individual_digits);
  EXPECT_EQ(steps[3].behavior, PreTokenizer::Behavior::Contiguous);
  EXPECT_FALSE(steps[4].use_regex);
}

TEST(TokenizerJson, ReadsWhatIsPutAroundTheText) {
  Json file = small_file();
  file["post_processor"] = parse_json(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}},
     {"SpecialToken": {"id": "x"}}], "special_tokens": {"<s>": {"ids": [5]}, "x": {"ids": [0, 1]}}}]})",
                                      "x");
  EXPECT_EQ(read(file).prefix, std::vector<int32_t>{5});
  EXPECT_EQ(read(file).suffix, (std::vector<int32_t>{0, 1}));
  file["post_processor"] =
      parse_json(R"({"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0]})", "x");
  EXPECT_EQ(read(file).prefix, std::vector<int32_t>{0});
  EXPECT_EQ(read(file).suffix, std::vector<int32_t>{1});
}

TEST(TokenizerJson, ReadsTheUnknownToken) {
  Json file = small_file();
  EXPECT_EQ(read(file).unknown, -1);
  file["model"]["unk_token"] = "<s>";
  file["model"]["fuse_unk"] = true;
  EXPECT_EQ(read(file).unknown, 5);
  EXPECT_TRUE(read(file).fuse_unknown);
  file["model"]["unk_token"] = "nothing";
  EXPECT_NE(error_of(file).find("nothing"), std::string::npos);
}

TEST(TokenizerJson, WhatIsNotSupportedIsNamedWithWhatIs) {
  const auto expect_named = [](const Json& file, const char* found, const char* supported) {
    EXPECT_NE(error_of(file).find(found), std::string::npos) << error_of(file);
    EXPECT_NE(error_of(file).find(supported), std::string::npos) << error_of(file);
  };
  Json file = small_file();
  file["model"]["type"] = "WordLevel";
  expect_named(file, "WordLevel", "Unigram");
  for (const auto& [key, supported] :
       {std::pair{"normalizer", "NFKC"}, std::pair{"pre_tokenizer", "Metaspace"},
        std::pair{"decoder", "ByteFallback"}, std::pair{"post_processor", "TemplateProcessing"}}) {
    file = small_file();
    file[key] = {{"type", "Telepathy"}};
    expect_named(file, "Telepathy", supported);
  }
}

TEST(TokenizerJson, WritesWhatItReads) {
  Json file = small_file();
  file["normalizer"] = {{"type", "NFC"}};
  file["pre_tokenizer"] = parse_json(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "\\d\"é"}, "behavior": "Removed", "invert": true},
    {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": true, "use_regex": false}]})",
                                     "x");
  file["post_processor"] = parse_json(R"({"type": "TemplateProcessing", "single": [
    {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"ids": [5]}}})",
                                      "x");
  file["model"]["unk_token"] = "<s>";
  file["model"]["ignore_merges"] = true;
  const TokenizerSpec spec = read(file);
  const std::string text = write_tokenizer_json(spec);
  const TokenizerSpec again = read_tokenizer_json(text, "again");
  EXPECT_EQ(again.tokens, spec.tokens);
  EXPECT_EQ(again.merges.size(), spec.merges.size());
  EXPECT_EQ(again.prefix, spec.prefix);
  EXPECT_EQ(again.unknown, spec.unknown);
  EXPECT_TRUE(again.ignore_merges);
  EXPECT_EQ(again.normalizers, spec.normalizers);
  EXPECT_EQ(write_tokenizer_json(again), text);  // and so everything else
}

TEST(TokenizerJson, TokensWithSpacesAreWrittenAsPairs) {
  TokenizerSpec spec{
      .tokens = {"a ", "b", "a b"}, .merges = {{0, 1, 2}}, .pre_tokenizers = {PreTokenizer{}}};
  const std::string text = write_tokenizer_json(spec);
  EXPECT_NE(text.find(R"(["a ", "b"])"), std::string::npos);
  EXPECT_EQ(read_tokenizer_json(text, "again").merges[0].result, 2);
}

TEST(TokenizerJson, LiesAboutIdsAreRefused) {
  const auto with_vocab = [](const char* vocab) {
    return error_of(std::string(R"({"model": {"merges": [], "vocab": )") + vocab +
                    R"(}, "pre_tokenizer": {"type": "ByteLevel"}})");
  };
  EXPECT_NE(with_vocab(R"({"a": 0, "b": 0})").find("id 0"), std::string::npos);
  EXPECT_NE(with_vocab(R"({"a": 0, "a": 1})").find("two ids"), std::string::npos);
  EXPECT_NE(with_vocab(R"({"a": -1})").find("-1"), std::string::npos);
  EXPECT_NE(with_vocab(R"({"a": 4294967296})").find("4294967296"), std::string::npos);
  EXPECT_NE(with_vocab(R"({"a": 99999999999999999999})"), "");
  EXPECT_NE(with_vocab(R"({"a": 2097152})"), "");
  EXPECT_NE(with_vocab(R"({"a": 1.5})"), "");
  EXPECT_NE(with_vocab(R"({"a": "0"})").find("integer"), std::string::npos);
  EXPECT_NE(with_vocab(R"({"a": null})"), "");
  EXPECT_NE(with_vocab(R"({"a": {"b": 1}})"), "");
  EXPECT_NE(with_vocab(R"({"a": [1]})"), "");
  EXPECT_NE(with_vocab(R"({"": 1})"), "");
  EXPECT_NE(with_vocab("{}"), "");
  EXPECT_NE(with_vocab("[]"), "");
  EXPECT_NE(with_vocab("7"), "");
}

TEST(TokenizerJson, LiesAboutAddedTokensAreRefused) {
  for (const char* token :
       {R"({"id": 0, "content": "<x>"})", R"({"id": 1, "content": "a"})",
        R"({"id": -1, "content": "<x>"})", R"({"id": 2000000000, "content": "<x>"})",
        R"({"content": "<x>"})", R"({"id": 9})", R"({"id": 9, "content": 9})",
        R"({"id": 9, "content": "<x>", "special": 1})", R"("<x>")", "null"}) {
    Json file = small_file();
    file["added_tokens"] = Json::array({parse_json(token, "x")});
    EXPECT_NE(error_of(file), "") << token;
  }
  Json file = small_file();
  file["added_tokens"] = {{"a", 1}};
  EXPECT_NE(error_of(file), "");
}

TEST(TokenizerJson, LiesAboutMergesAreRefused) {
  for (const char* merges : {R"(["a z"])", R"(["a"])", R"(["b a"])", R"(["a b c"])", R"([["a"]])",
                             R"([["a", "b", "a"]])", R"([["a", 1]])", R"([[["a"], "b"]])",
                             R"([{"a": "b"}])", R"({"a": "b"})", "[1]", "[null]"}) {
    Json file = small_file();
    file["model"]["merges"] = parse_json(merges, "x");
    EXPECT_NE(error_of(file), "") << merges;
  }
}

TEST(TokenizerJson, WrongTypesAnywhereAreRefused) {
  // Every value of the file in turn becomes something else.
  const Json good = small_file();
  const Json flat = good.flatten();
  const std::vector<Json> others = {"text", 17, -1.5, Json::array({1}), Json{{"x", 1}}, true};
  for (const auto& [path, value] : flat.items()) {
    for (const Json& other : others) {
      Json file = good;
      file[Json::json_pointer(path)] = other;
      try {
        read(file);
      } catch (const Error&) {
      }
    }
  }
  for (const char* key : {"model", "pre_tokenizer"}) {
    for (const Json& other : others) {
      Json file = good;
      file[key] = other;
      EXPECT_NE(error_of(file), "") << key << " = " << other;
    }
  }
  for (const char* text : {"", "[]", "null", "3", "{", "{\"model\":", "\"text\"", "{}"})
    EXPECT_NE(error_of(std::string(text)), "") << text;
}

TEST(TokenizerJson, DeepNestingIsRefused) {
  const std::string deep(1'000'000, '[');
  EXPECT_NE(error_of(deep).find("deeper"), std::string::npos);
  EXPECT_NE(error_of("{\"normalizer\": " + deep), "");
  std::string sequences = R"({"model": {"vocab": {"a": 0}}, "pre_tokenizer": )";
  for (int i = 0; i < 90; ++i) sequences += R"({"type": "Sequence", "pretokenizers": [)";
  EXPECT_NE(error_of(sequences), "");
}

TEST(TokenizerJson, InvalidUtf8IsRefused) {
  EXPECT_NE(error_of(std::string("{\"model\": {\"vocab\": {\"\xff\": 0}}}")).find("UTF-8"),
            std::string::npos);
}

TEST(TokenizerJson, ManyKeysTakeNoQuadraticTime) {
  std::string text = "{\"x\": {";
  for (int i = 0; i < 300'000; ++i) text += fmt::format("\"{}\": 1, ", i);
  text += "\"y\": 1}}";
  EXPECT_NE(error_of(text).find("keys"), std::string::npos);
}

TEST(TokenizerJson, ALargeVocabularyIsReadQuickly) {
  TokenizerSpec spec{.pre_tokenizers = {PreTokenizer{}}};
  for (int i = 0; i < 100; ++i) spec.tokens.push_back(fmt::format("<{}>", i));
  for (int i = 0; i < 200'000; ++i) {
    spec.tokens.push_back(spec.tokens[i / 2] + spec.tokens[i % 100]);
    if (spec.tokens.back().size() > 40) spec.tokens.back() = fmt::format("t{}", i);
  }
  const std::string text = write_tokenizer_json(spec);
  const auto start = std::chrono::steady_clock::now();
  try {
    read_tokenizer_json(text, "large");
  } catch (const Error&) {  // two of these tokens may be the same
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace moiety::format
