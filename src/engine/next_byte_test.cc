#include "engine/next_byte.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <map>
#include <string>

namespace moiety::engine {
namespace {

std::vector<std::string_view> views(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

// a: 0.4; ab, ac: 0.25 each; b: 0.1. "a" is the likeliest first byte (0.9); after it "b" and "c" are equal, and the lower counts.
TEST(NextByte, TokensThatShareAByteAddUp) {
  const std::vector<std::string> tokens{"a", "ab", "ac", "b", ""};
  const ByteVocabulary vocabulary(views(tokens));
  const std::vector<float> logits{std::log(0.4f), std::log(0.25f), std::log(0.25f), std::log(0.1f), 5.0f};
  EXPECT_EQ(vocabulary.score(logits, 0).all.right, 1u);
  EXPECT_EQ(vocabulary.score(logits, 1).all.right, 2u);
  EXPECT_EQ(vocabulary.score(logits, 2).all.right, 1u);
  EXPECT_EQ(vocabulary.score(logits, 2).all.all, 2u);
  EXPECT_EQ(vocabulary.score(logits, 2).first.all, 1u);
  EXPECT_EQ(vocabulary.score(logits, 3).all.right, 0u);
  EXPECT_EQ(vocabulary.score(logits, 4).all.all, 0u) << "it has no bytes";
}

// Against sums over the whole vocabulary, byte by byte. Weights are powers of two, so that sums are exact.
RC_GTEST_PROP(NextByte, IsTheLikeliestOfAllTokensSumByByte, ()) {
  const auto token = rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab\xff")));
  const auto tokens = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::string>>(token));
  std::vector<float> logits;
  for (size_t i = 0; i < tokens.size(); ++i) logits.push_back(std::log(2.0f) * static_cast<float>(*rc::gen::inRange(0, 12)));
  const ByteVocabulary vocabulary(views(tokens));

  const size_t truth = *rc::gen::inRange<size_t>(0, tokens.size());
  size_t right = 0;
  for (size_t i = 0; i < tokens[truth].size(); ++i) {
    std::map<unsigned char, double> weights;
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (tokens[t].size() <= i || tokens[t].substr(0, i) != tokens[truth].substr(0, i)) continue;
      weights[static_cast<unsigned char>(tokens[t][i])] += std::exp2(std::round(logits[t] / std::log(2.0f)));
    }
    unsigned char best = weights.begin()->first;
    bool tie = false;
    for (const auto& [byte, weight] : weights) {
      if (weight > weights[best]) best = byte;
    }
    for (const auto& [byte, weight] : weights) tie = tie || (byte != best && weight == weights[best]);
    if (tie) RC_DISCARD("equal weights: rounding of exp decides");
    right += best == static_cast<unsigned char>(tokens[truth][i]);
  }
  const ByteAccuracy found = vocabulary.score(logits, static_cast<int32_t>(truth));
  RC_ASSERT(found.all.right == right);
  RC_ASSERT(found.all.all == tokens[truth].size());
}

TEST(Accuracy, WilsonsIntervalIsThePublishedOne) {
  // 81 of 263 (Newcombe 1998, table I): 0.2553 to 0.3662; 0 of 20: 0 to 0.1611.
  const Accuracy some{81, 263}, none{0, 20};
  EXPECT_NEAR(some.interval().first, 0.2553, 5e-5);
  EXPECT_NEAR(some.interval().second, 0.3662, 5e-5);
  EXPECT_NEAR(none.interval().first, 0, 1e-12);
  EXPECT_NEAR(none.interval().second, 0.1611, 5e-5);
}

}  // namespace
}  // namespace moiety::engine
