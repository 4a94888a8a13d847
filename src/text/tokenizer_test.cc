#include "text/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "text/test_support.h"

namespace moiety::text {
namespace {

using spec::TokenizerSpec;
using Ids = std::vector<int32_t>;

TokenizerSpec with_added(std::vector<spec::AddedToken> added) {
  TokenizerSpec spec = small_tokenizer();
  for (spec::AddedToken& token : added) {
    token.id = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(token.content);
    spec.added.push_back(token);
  }
  return spec;
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_TRUE(rc::check([&](uint64_t seed, uint8_t length) {
    const std::string text = random_text(seed, length);
    RC_ASSERT(tokenizer.decode(tokenizer.encode(text, false), false) == text);
  }));
}

TEST(Tokenizer, EveryIdIsInTheVocabulary) {
  const Tokenizer tokenizer(small_tokenizer());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const int32_t id : tokenizer.encode(random_bytes(seed, 100), true)) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, tokenizer.vocab_size());
    }
  }
}

TEST(Tokenizer, InvalidTextIsReadAsReplacementCharacters) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer.encode("a\xff\xe4\xb8z", false), tokenizer.encode("a��z", false));
}

TEST(Tokenizer, SpecialTokensInTheTextAreFoundWhole) {
  const Tokenizer tokenizer(small_tokenizer());
  const Ids ids = tokenizer.encode("the<|endoftext|>the", false);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 1);
  EXPECT_EQ(tokenizer.decode(ids, false), "the<|endoftext|>the");
  EXPECT_EQ(tokenizer.decode(ids, true), "thethe");
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_FALSE(tokenizer.is_special(1));
  EXPECT_EQ(tokenizer.find("<|endoftext|>"), 0);
  EXPECT_EQ(tokenizer.find("no such token"), std::nullopt);
}

TEST(Tokenizer, PrefixAndSuffixAreAddedOnRequest) {
  TokenizerSpec spec = small_tokenizer();
  spec.prefix = {0};
  spec.suffix = {0, 1};
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("", true), (Ids{0, 0, 1}));
  EXPECT_EQ(tokenizer.encode("", false), Ids{});
}

TEST(Tokenizer, NormalizedTokensAreFoundAfterNormalisation) {
  TokenizerSpec spec = with_added(
      {{.content = "e\u0301x", .normalized = true}, {.content = "a\u0301y", .normalized = false}});
  spec.normalizers = {{.form = spec::NormalForm::Nfc}};
  const int32_t normalized = spec.added[1].id, as_written = spec.added[2].id;
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("\u00e9x", false), Ids{normalized});
  EXPECT_EQ(tokenizer.encode("e\u0301x", false), Ids{normalized});
  EXPECT_EQ(tokenizer.encode("a\u0301y", false), Ids{as_written});
  EXPECT_NE(tokenizer.encode("\u00e1y", false), Ids{as_written});
}

TEST(Tokenizer, TokensOutsideTheAlphabetStandForThemselves) {
  const TokenizerSpec spec = with_added({{.content = "<中 文>"}});
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.token_bytes(spec.added[1].id), "<中 文>");
  EXPECT_EQ(tokenizer.token_bytes(*tokenizer.find("Ġ")), " ");
}

TEST(Tokenizer, IdsWithoutATokenDecodeToNothing) {
  const Tokenizer tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer.decode(Ids{-1, 1'000'000, INT32_MAX, INT32_MIN}, false), "");
}

TEST(Tokenizer, DecodeReplacesEachMaximalInvalidPart) {
  const Tokenizer tokenizer(small_tokenizer());
  Ids ids;
  for (const char* byte : {"a", "ð", "Ł", "Ļ", "b", "ÿ", "ä", "¸"})
    ids.push_back(*tokenizer.find(byte));
  EXPECT_EQ(tokenizer.decode(ids, false), "a�b��");  // 61 F0 9F 99 62 FF E4 B8
}

TEST(Tokenizer, ThreadsMayShareOne) {
  const Tokenizer tokenizer(small_tokenizer());
  std::vector<Ids> expected;
  for (uint64_t seed = 0; seed < 50; ++seed)
    expected.push_back(tokenizer.encode(random_text(seed, 200), false));
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t seed = 0; seed < 50; ++seed)
        wrong[t] += tokenizer.encode(random_text(seed, 200), false) != expected[seed];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(Tokenizer, MovesWithoutLosingItself) {
  Tokenizer first(small_tokenizer());
  const Ids ids = first.encode("the router", false);
  const Tokenizer second = std::move(first);
  EXPECT_EQ(second.encode("the router", false), ids);
  EXPECT_EQ(second.find("<|endoftext|>"), 0);
}

TEST(Tokenizer, AMegabyteOfAnythingTakesNoQuadraticTime) {
  const Tokenizer tokenizer(small_tokenizer());
  const std::string texts[] = {std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
                               std::string(1'000'000, '\n'), random_bytes(1, 1'000'000),
                               random_text(1, 400'000)};
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : texts) tokenizer.encode(text, false);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(Tokenizer, APatternThatCannotBeCompiledIsOneSentence) {
  TokenizerSpec spec = small_tokenizer();
  spec.pre_tokenizers = {{.kind = spec::PreTokenizer::Kind::Split, .pattern = "("},
                         {.use_regex = false}};
  EXPECT_THROW(Tokenizer tokenizer(spec), Error);
}

}  // namespace
}  // namespace moiety::text
