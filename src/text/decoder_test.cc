#include "text/decoder.h"

#include <gtest/gtest.h>

#include "text/utf8.h"

namespace moiety::text {
namespace {

using Kind = spec::Decoder::Kind;
using Steps = std::vector<spec::Decoder>;
using Tokens = std::vector<std::string>;

std::string decode(const Steps& steps, const Tokens& tokens) {
  const Decoder decoder(steps);
  Decoder::Stream stream(decoder);
  std::string text;
  for (const std::string& token : tokens) stream.push(token, text);
  stream.finish(text);
  return text;
}

Steps llama(bool spoils_run = true) {
  return {{.kind = Kind::Replace, .pattern = "▁", .content = " "},
          {.kind = Kind::ByteFallback, .spoils_run = spoils_run},
          {.kind = Kind::Fuse},
          {.kind = Kind::Strip, .content = " ", .start = 1}};
}

TEST(Decoder, LlamaStripsOneSpaceAtTheVeryBeginning) {
  EXPECT_EQ(decode(llama(), {"▁a", "▁b"}), "a b");
  EXPECT_EQ(decode(llama(), {"▁▁a"}), " a");
  EXPECT_EQ(decode(llama(), {"a", "▁", "▁"}), "a  ");
}

TEST(Decoder, BytesAreCharactersWhenTheyAreWhole) {
  EXPECT_EQ(decode(llama(), {"a", "<0xC3>", "<0xA9>", "b"}), "aéb");
  // One wrong byte spoils its run for Hugging Face, for sentencepiece only itself.
  EXPECT_EQ(decode(llama(), {"<0xC3>", "<0xA9>", "<0xE4>", "b"}), "\ufffd\ufffd\ufffdb");
  EXPECT_EQ(decode(llama(false), {"<0xC3>", "<0xA9>", "<0xE4>", "b"}), "é\ufffdb");
  EXPECT_EQ(decode(llama(false), {"<0xE4>", "<0xB8>"}), "\ufffd\ufffd");
}

TEST(Decoder, WhatIsCertainComesOutAtOnce) {
  const Decoder decoder(llama());
  Decoder::Stream stream(decoder);
  const auto push = [&](const char* token) {
    std::string text;
    stream.push(token, text);
    return text;
  };
  EXPECT_EQ(push("▁a"), "a");
  EXPECT_EQ(push("<0xC3>"), "");
  EXPECT_EQ(push("<0xA9>"), "");  // another byte might spoil it
  EXPECT_EQ(push("b"), "éb");
}

TEST(Decoder, TheFirstTokenIsSpecialToMetaspace) {
  const Steps steps = {{.kind = Kind::Metaspace, .content = "▁"}};
  EXPECT_EQ(decode(steps, {"▁a", "▁b"}), "a b");
  EXPECT_EQ(decode({{.kind = Kind::Metaspace, .content = "▁", .drops_first = false}}, {"▁a"}), " a");
}

TEST(Decoder, WordPieceJoinsWhatGoesOn) {
  const Steps steps = {{.kind = Kind::WordPiece, .content = "##"}};
  EXPECT_EQ(decode(steps, {"go", "##ing", "home", "."}), "going home.");
}

TEST(Decoder, TheLastWordEndIsNoSpace) {
  EXPECT_EQ(decode({{.kind = Kind::WordEnd, .content = "</w>"}}, {"a</w>", "b", "c</w>"}), "a bc");
}

TEST(Decoder, WithoutStepsThereAreSpacesBetween) {
  EXPECT_EQ(decode({{.kind = Kind::Spaces}}, {"a", "b"}), "a b");
}

TEST(Decoder, AReplacementMayLieAcrossFusedTokens) {
  EXPECT_EQ(decode({{.kind = Kind::Fuse}, {.kind = Kind::Replace, .pattern = "ab", .content = "x"}},
                   {"a", "ba", "b"}),
            "xx");
}

}  // namespace
}  // namespace moiety::text
