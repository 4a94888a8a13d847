#include "text/splitter.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/test_support.h"

namespace moiety::text {
namespace {

using spec::PreTokenizer;
using Behavior = PreTokenizer::Behavior;
using Pieces = std::vector<std::string>;

PreTokenizer by_pattern(const char* pattern, Behavior behavior, bool invert = false) {
  return {.kind = PreTokenizer::Kind::Split,
          .pattern = pattern,
          .behavior = behavior,
          .invert = invert};
}
PreTokenizer digits(bool individual) {
  return {.kind = PreTokenizer::Kind::Digits, .individual_digits = individual};
}
const PreTokenizer kBytesOnly{.use_regex = false};

Pieces split(const std::vector<PreTokenizer>& steps, std::string_view text) {
  Splitter::Scratch scratch;
  const auto pieces = Splitter(steps).split(text, true, scratch);
  return {pieces.begin(), pieces.end()};
}

TEST(Splitter, Gpt2SplitsWordsDigitsAndSpaces) {
  EXPECT_EQ(split({PreTokenizer{}}, "Hello  world, it's 2024!\n\n x"),
            (Pieces{"Hello", " ", " world", ",", " it", "'s", " 2024", "!", "\n\n", " x"}));
}

TEST(Splitter, EmptyTextHasNoPieces) { EXPECT_EQ(split({PreTokenizer{}}, ""), Pieces{}); }

TEST(Splitter, APrefixSpaceIsAddedToWhatHasNone) {
  const PreTokenizer prefixed{.add_prefix_space = true};
  EXPECT_EQ(split({prefixed}, "a b"), (Pieces{" a", " b"}));
  EXPECT_EQ(split({prefixed}, " a"), (Pieces{" a"}));
  // After another step each of its pieces gets one.
  EXPECT_EQ(split({digits(true), prefixed}, "a1"), (Pieces{" a", " 1"}));
}

TEST(Splitter, EachBehaviorPutsTheSeparatorElsewhere) {
  const char* text = "a--b-c";
  const auto run = [&](Behavior behavior) {
    return split({by_pattern("-", behavior), kBytesOnly}, text);
  };
  EXPECT_EQ(run(Behavior::Removed), (Pieces{"a", "b", "c"}));
  EXPECT_EQ(run(Behavior::Isolated), (Pieces{"a", "-", "-", "b", "-", "c"}));
  EXPECT_EQ(run(Behavior::MergedWithPrevious), (Pieces{"a-", "-", "b-", "c"}));
  EXPECT_EQ(run(Behavior::MergedWithNext), (Pieces{"a", "-", "-b", "-c"}));
  EXPECT_EQ(run(Behavior::Contiguous), (Pieces{"a", "--", "b", "-", "c"}));
}

TEST(Splitter, InvertedPatternsMatchWhatStays) {
  EXPECT_EQ(split({by_pattern("[ab]+", Behavior::Removed, true), kBytesOnly}, "ab-ba--b"),
            (Pieces{"ab", "ba", "b"}));
}

TEST(Splitter, DigitsOneByOneOrInRuns) {
  EXPECT_EQ(split({digits(true), kBytesOnly}, "ab12½c"), (Pieces{"ab", "1", "2", "½", "c"}));
  EXPECT_EQ(split({digits(false), kBytesOnly}, "ab12c"), (Pieces{"ab", "12", "c"}));
}

TEST(Splitter, EmptyMatchesCutWithoutTakingText) {
  EXPECT_EQ(split({by_pattern("(?=b)", Behavior::Isolated), kBytesOnly}, "abcb"),
            (Pieces{"a", "bc", "b"}));
  EXPECT_EQ(split({by_pattern("x*", Behavior::Isolated), kBytesOnly}, "axé"),
            (Pieces{"a", "x", "é"}));
}

TEST(Splitter, EachStepSeesOnlyItsPiece) {
  // "$" is the end of each piece that the first step made.
  EXPECT_EQ(
      split({by_pattern("-", Behavior::Isolated), by_pattern("b$", Behavior::Isolated), kBytesOnly},
            "ab-ab"),
      (Pieces{"a", "b", "-", "a", "b"}));
}

TEST(Splitter, StepsBehindByteLevelSeePrintableCharacters) {
  // Of é's two bytes (C3 A9) the second is written ©; of a line feed, Ċ.
  EXPECT_EQ(split({kBytesOnly, by_pattern("©", Behavior::Isolated)}, "éa"),
            (Pieces{"\xc3", "\xa9", "a"}));
  EXPECT_EQ(split({kBytesOnly, by_pattern("Ċ", Behavior::Isolated)}, "a\nb"),
            (Pieces{"a", "\n", "b"}));
}

TEST(Splitter, IsolatedPiecesJoinToTheText) {
  const Splitter splitter(
      {by_pattern("\\p{N}{1,3}", Behavior::Isolated), digits(true), PreTokenizer{}});
  Splitter::Scratch scratch;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = random_text(seed, 40);
    std::string joined;
    for (const std::string_view piece : splitter.split(text, true, scratch)) {
      EXPECT_FALSE(piece.empty());
      joined += piece;
    }
    EXPECT_EQ(joined, text);
  }
}

TEST(Splitter, ByteLevelMustBeThereOnce) {
  EXPECT_THROW(Splitter({}), Error);
  EXPECT_THROW(Splitter({digits(true)}), Error);
  EXPECT_THROW(Splitter({kBytesOnly, kBytesOnly}), Error);
}

}  // namespace
}  // namespace moiety::text
