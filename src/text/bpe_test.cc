#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "text/byte_alphabet.h"
#include "text/test_support.h"

namespace moiety::text {
namespace {

using spec::TokenizerSpec;
using Ids = std::vector<int32_t>;

// Tokens a, b, c, ab, abc, bc in this order.
TokenizerSpec letters(std::vector<TokenizerSpec::Merge> merges) {
  return {.tokens = {"a", "b", "c", "ab", "abc", "bc"}, .merges = std::move(merges)};
}

Ids encode(const TokenizerSpec& spec, std::string_view piece) {
  PieceModel::Scratch scratch;
  Ids ids;
  Bpe(spec, {}).encode(piece, scratch, ids);
  return ids;
}

// Plainly right: look for the best pair in the whole piece at every step.
Ids encode_slowly(const TokenizerSpec& spec, std::string_view piece) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank)
    ranks[{spec.merges[rank].left, spec.merges[rank].right}] = rank;
  Ids ids;
  for (const char c : piece) {
    const auto token =
        std::find(spec.tokens.begin(), spec.tokens.end(), to_printable(std::string(1, c)));
    ids.push_back(static_cast<int32_t>(token - spec.tokens.begin()));
  }
  for (;;) {
    size_t best = ids.size(), best_rank = SIZE_MAX;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best_rank) {
        best = i;
        best_rank = found->second;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = spec.merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, JoinsTheEarliestMergeFirst) {
  EXPECT_EQ(encode(letters({{0, 1, 3}, {3, 2, 4}}), "abc"), (Ids{4}));
  EXPECT_EQ(encode(letters({{1, 2, 5}, {0, 1, 3}}), "abc"), (Ids{0, 5}));
  EXPECT_EQ(encode(letters({{0, 1, 3}, {1, 2, 5}}), "abcab"), (Ids{3, 2, 3}));
}

TEST(Bpe, AmongEqualPairsTheLeftmostIsJoined) {
  TokenizerSpec spec{.tokens = {"a", "aa"}, .merges = {{0, 0, 1}}};
  EXPECT_EQ(encode(spec, "aaa"), (Ids{1, 0}));
  EXPECT_EQ(encode(spec, std::string(101, 'a')), [] {
    Ids ids(50, 1);
    ids.push_back(0);
    return ids;
  }());
}

TEST(Bpe, BytesThatAreNoTokensAreLeftOutOrUnknown) {
  TokenizerSpec spec{.tokens = {"a", "?"}};
  EXPECT_EQ(encode(spec, "axxa"), (Ids{0, 0}));
  spec.unknown = 1;
  EXPECT_EQ(encode(spec, "axxa"), (Ids{0, 1, 1, 0}));
  spec.fuse_unknown = true;
  EXPECT_EQ(encode(spec, "axxa"), (Ids{0, 1, 0}));
}

TEST(Bpe, AWholePieceMayBeTakenAsItIs) {
  const Bpe bpe(letters({{0, 1, 3}}), {{"abc", 4}});
  PieceModel::Scratch scratch;
  Ids ids;
  bpe.encode("abc", scratch, ids);
  bpe.encode("abca", scratch, ids);
  EXPECT_EQ(ids, (Ids{4, 3, 2, 0}));
}

TEST(Bpe, GivesWhatTheSlowWayGives) {
  const TokenizerSpec spec = small_tokenizer();
  const Bpe bpe(spec, {});
  PieceModel::Scratch scratch;
  const std::string words[] = {"router", "the",  "aaaa", "abab", " ",
                               "中文",   "größ", "🙂", "12",   "\xff"};
  Random random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string piece;
    for (uint64_t left = random.below(30); left > 0; --left)
      piece += words[random.below(std::size(words))];
    if (piece.empty()) continue;
    Ids ids;
    bpe.encode(piece, scratch, ids);
    ASSERT_EQ(ids, encode_slowly(spec, piece)) << piece;
    ids.clear();
    bpe.encode(piece, scratch, ids);  // perhaps out of the cache
    ASSERT_EQ(ids, encode_slowly(spec, piece)) << piece;
  }
}

TEST(Bpe, AMegabyteInOnePieceTakesNoQuadraticTime) {
  const TokenizerSpec spec = small_tokenizer();
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& piece :
       {std::string(1'000'000, 'a'), std::string(1'000'000, ' '), random_bytes(1, 1'000'000)})
    encode(spec, piece);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(PieceCache, RemembersAndForgets) {
  PieceCache cache;
  EXPECT_EQ(cache.find("word"), nullptr);
  const int32_t ids[] = {1, 2};
  cache.store("word", ids, 2);
  ASSERT_NE(cache.find("word"), nullptr);
  EXPECT_EQ(cache.find("word")->count, 2);
  EXPECT_EQ(cache.find("ward"), nullptr);
  cache.store(std::string(100, 'a'), ids, 2);  // too long to keep
  EXPECT_EQ(cache.find(std::string(100, 'a')), nullptr);
}

}  // namespace
}  // namespace moiety::text
