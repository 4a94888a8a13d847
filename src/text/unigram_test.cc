#include "text/unigram.h"

#include <gtest/gtest.h>

#include <chrono>

namespace moiety::text {
namespace {

using spec::TokenizerSpec;
using Ids = std::vector<int32_t>;

TokenizerSpec letters() {
  return {.model = TokenizerSpec::Model::Unigram,
          .tokens = {"?", "a", "b", "c", "ab", "bc", "abc"},
          .scores = {0, -2, -2, -2, -3, -2.5, -6},
          .unknown = 0,
          .fuse_unknown = true};
}

Ids encode(const TokenizerSpec& spec, std::string_view piece) {
  PieceModel::Scratch scratch;
  Ids ids;
  Unigram(spec).encode(piece, scratch, ids);
  return ids;
}

TEST(Unigram, TakesTheLikeliestCut) {
  EXPECT_EQ(encode(letters(), "abc"), (Ids{1, 5}));  // -4.5, not -5 or -6
  EXPECT_EQ(encode(letters(), "abab"), (Ids{4, 4}));
}

TEST(Unigram, ARunOfUnknownCharactersIsOneToken) {
  EXPECT_EQ(encode(letters(), "a中文b"), (Ids{1, 0, 2}));
  TokenizerSpec spec = letters();
  spec.fuse_unknown = false;
  EXPECT_EQ(encode(spec, "a中文b"), (Ids{1, 0, 0, 2}));
}

TEST(Unigram, UnknownCharactersBecomeBytesIfAllHaveTokens) {
  TokenizerSpec spec = letters();
  spec.byte_fallback = true;
  for (const char* byte : {"<0xC3>", "<0xA9>"}) {
    spec.tokens.push_back(byte);
    spec.scores.push_back(0);
  }
  EXPECT_EQ(encode(spec, "aé"), (Ids{1, 7, 8}));
  EXPECT_EQ(encode(spec, "aü"), (Ids{1, 0}));
}

TEST(Unigram, AMegabyteTakesLinearTime) {
  const auto start = std::chrono::steady_clock::now();
  encode(letters(), std::string(1'000'000, 'a'));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace moiety::text
