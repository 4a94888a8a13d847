#include "bench/tokens.h"

#include <gtest/gtest.h>

#include "format/synthetic_router.h"

namespace moiety::bench {
namespace {

constexpr int kVocabulary = 1000;

TEST(Tokens, AreAFunctionOfThePlace) {
  const TokenPlace place{2, 3, 4};
  for (const TokenKind kind : {TokenKind::Random, TokenKind::Topics}) {
    const auto tokens = draw_tokens(kind, kVocabulary, place, 50);
    EXPECT_EQ(draw_tokens(kind, kVocabulary, place, 50), tokens);
    for (const TokenPlace& other : {TokenPlace{1, 3, 4}, {2, 1, 4}, {2, 3, 1}}) {
      EXPECT_NE(draw_tokens(kind, kVocabulary, other, 50), tokens);
    }
  }
}

TEST(Tokens, OfTopicsStayInOneForAWhile) {
  const size_t count = 64000;
  const auto tokens = draw_tokens(TokenKind::Topics, kVocabulary, {}, count);
  double turns = 0;
  for (size_t i = 1; i < count; ++i) {
    const format::TokenRange topic = format::topic_around(tokens[i - 1], kVocabulary);
    turns += tokens[i] < topic.begin || tokens[i] >= topic.end;
  }
  // One turn in 64 is to the same topic
  EXPECT_NEAR(static_cast<double>(count) / turns, kTopicStay * 64.0 / 63, 2);
}

TEST(Topics, CutTheVocabularyIntoRunsWithoutGaps) {
  for (const int vocabulary : {1, 50, 64, 1000, 151936}) {
    int at = 0, topics = 0;
    for (; at < vocabulary; ++topics) {
      const format::TokenRange topic = format::topic_around(at, vocabulary);
      ASSERT_EQ(topic.begin, at) << vocabulary;
      ASSERT_GT(topic.end, at) << vocabulary;
      at = topic.end;
    }
    EXPECT_EQ(at, vocabulary);
    EXPECT_EQ(topics, std::min(vocabulary, format::kTopics));
  }
}

}  // namespace
}  // namespace moiety::bench
