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
  TextIndex whole;
  whole.insert("abc", 4);
  const Bpe bpe(letters({{0, 1, 3}}), whole);
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

// The same, over characters.
Ids encode_characters_slowly(const TokenizerSpec& spec, std::string_view piece) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < piece.size(); at += utf8_char(piece, at).bytes)
    parts.emplace_back(piece.substr(at, utf8_char(piece, at).bytes));
  for (bool joined = true; joined;) {
    joined = false;
    for (size_t m = 0; m < spec.merges.size() && !joined; ++m) {
      for (size_t i = 0; i + 1 < parts.size() && !joined; ++i) {
        joined = parts[i] == spec.tokens[spec.merges[m].left] &&
                 parts[i + 1] == spec.tokens[spec.merges[m].right];
        if (!joined) continue;
        parts[i] += parts[i + 1];
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
  }
  Ids ids;
  bool unknown = false;
  for (const std::string& part : parts) {
    const auto token = std::find(spec.tokens.begin(), spec.tokens.end(), part);
    if (token != spec.tokens.end()) {
      ids.push_back(static_cast<int32_t>(token - spec.tokens.begin()));
    } else if (!unknown) {
      ids.push_back(spec.unknown);
    }
    unknown = token == spec.tokens.end();
  }
  return ids;
}

TEST(Bpe, CutAtItsSeamsATextGivesTheSame) {
  TokenizerSpec spec{.tokens = {"?", "a", "b", "▁", "é", "ab", "▁a", "▁▁", "éa", "ba", "▁ab", "aba"},
                     .unknown = 0,
                     .fuse_unknown = true};
  spec.merges = {{1, 2, 5}, {3, 1, 6}, {3, 3, 7}, {4, 1, 8}, {2, 1, 9}, {3, 5, 10}, {5, 1, 11}};
  const Bpe bpe(spec, {});
  PieceModel::Scratch scratch;
  const std::string letters[] = {"a", "a", "b", "b", "▁", "é", "中", "文"};
  Random random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string piece;
    for (uint64_t left = 1 + random.below(40); left > 0; --left)
      piece += letters[random.below(std::size(letters))];
    Ids ids;
    bpe.encode(piece, scratch, ids);
    ASSERT_EQ(ids, encode_characters_slowly(spec, piece)) << piece;
  }
}

TEST(Bpe, ScoresSayWhatIsJoinedFirst) {
  TokenizerSpec spec{.tokens = {"a", "b", "c", "ab", "bc"},
                     .scores = {0, 0, 0, -2, -1},
                     .merges_by_score = true};
  EXPECT_EQ(encode(spec, "abc"), (Ids{0, 4}));
  spec.scores = {0, 0, 0, -1, -1};  // equal: the leftmost
  EXPECT_EQ(encode(spec, "abc"), (Ids{3, 2}));
  spec.types.assign(5, spec::TokenType::Normal);
  spec.types[3] = spec::TokenType::Unused;
  EXPECT_EQ(encode(spec, "abc"), (Ids{0, 4}));
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
