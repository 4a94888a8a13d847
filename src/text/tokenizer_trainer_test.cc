#include "text/tokenizer_trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/splitter.h"
#include "text/test_support.h"
#include "text/tokenizer.h"
#include "text/word_count.h"

namespace moiety::text {
namespace {

using spec::TokenizerSpec;
using Pair = std::pair<std::string, std::string>;

// Plainly right: count all pairs of all words anew for every token.
std::vector<Pair> train_slowly(const std::vector<std::string>& documents,
                               const TrainerOptions& options) {
  const TokenizerSpec bytes = train_tokenizer({}, options);
  std::map<std::string, int> ids;
  for (size_t id = 0; id < bytes.tokens.size(); ++id) ids[bytes.tokens[id]] = static_cast<int>(id);

  std::vector<std::vector<std::string>> words;
  const Splitter splitter(options.pre_tokenizers);
  Splitter::Scratch scratch;
  for (const std::string& document : documents) {
    for (const std::string_view piece : splitter.split(document, true, scratch)) {
      words.emplace_back();
      for (const char c : piece) words.back().push_back(to_printable(std::string(1, c)));
    }
  }
  std::vector<Pair> merges;
  while (static_cast<int>(ids.size()) < options.vocab_size) {
    std::map<Pair, int> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    const Pair* best = nullptr;
    int best_count = 0;
    for (const auto& [pair, count] : counts) {
      if (ids.contains(pair.first + pair.second) || count < options.min_count) continue;
      const bool smaller_ids =
          best != nullptr && std::pair(ids[pair.first], ids[pair.second]) <
                                 std::pair(ids[best->first], ids[best->second]);
      if (count > best_count || (count == best_count && smaller_ids)) {
        best = &pair;
        best_count = count;
      }
    }
    if (best == nullptr) break;
    merges.push_back(*best);
    ids.emplace(best->first + best->second, static_cast<int>(ids.size()));
    for (auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best->first || word[i + 1] != best->second) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

TokenizerSpec train(const std::vector<std::string>& documents, const TrainerOptions& options) {
  const std::vector<std::string_view> views(documents.begin(), documents.end());
  return train_tokenizer(views, options);
}

std::vector<Pair> texts_of(const TokenizerSpec& spec) {
  std::vector<Pair> merges;
  for (const auto& merge : spec.merges)
    merges.emplace_back(spec.tokens[merge.left], spec.tokens[merge.right]);
  return merges;
}

TEST(TokenizerTrainer, SpecialTokensComeFirstThenBytesThenMerges) {
  const TokenizerSpec spec =
      train({"abababab"}, {.vocab_size = 260, .special_tokens = {"<s>", "</s>"}});
  EXPECT_EQ(spec.tokens[0], "<s>");
  EXPECT_EQ(spec.tokens[1], "</s>");
  EXPECT_EQ(spec.tokens[2], "!");
  EXPECT_EQ(spec.tokens[257], "Ń");
  EXPECT_EQ(spec.tokens[258], "ab");
  EXPECT_EQ(spec.tokens[259], "abab");
  ASSERT_EQ(spec.added.size(), 2u);
  EXPECT_TRUE(spec.added[1].special);
  EXPECT_NO_THROW(check(spec, "trained"));
}

TEST(TokenizerTrainer, LearnsWhatTheSlowWayLearns) {
  const std::string words[] = {"the",  "router", " the", " route", "aaa", "aa", "ababa",
                               "中文", "中",     "é",    "\n\n",   "12",  " "};
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    std::vector<std::string> documents(random.below(4) + 1);
    for (std::string& document : documents) {
      for (uint64_t left = random.below(60); left > 0; --left)
        document += words[random.below(std::size(words))];
    }
    TrainerOptions options{.vocab_size = 257 + static_cast<int>(random.below(60)),
                           .min_count = static_cast<int>(random.below(3)) + 1};
    // Without GPT-2's split the whole text is one word, full of overlapping pairs.
    options.pre_tokenizers[0].use_regex = random.below(2) == 0;
    if (!options.pre_tokenizers[0].use_regex) {
      for (std::string& document : documents)
        document.resize(std::min(document.size(), kLongestWord));
      for (std::string& document : documents)
        document = replace_invalid(document).substr(0, kLongestWord - 3);
      for (std::string& document : documents) document = replace_invalid(document);
    }
    ASSERT_EQ(texts_of(train(documents, options)), train_slowly(documents, options))
        << "seed " << seed;
  }
}

TEST(TokenizerTrainer, TheNumberOfThreadsChangesNothing) {
  std::vector<std::string> documents;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string part = random_text(seed, 300);
    documents.emplace_back();
    while (documents.back().size() < 200'000) documents.back() += part;
  }
  const auto with = [&](int threads) {
    return texts_of(train(documents, {.vocab_size = 600, .threads = threads}));
  };
  const std::vector<Pair> one = with(1);
  EXPECT_EQ(one.size(), 600u - 257u);
  EXPECT_EQ(with(2), one);
  EXPECT_EQ(with(5), one);
}

TEST(TokenizerTrainer, StopsWhereNoPairIsFrequentEnough) {
  EXPECT_EQ(train({"abc"}, {.vocab_size = 1000}).merges.size(), 0u);
  EXPECT_EQ(train({"abc"}, {.vocab_size = 1000, .min_count = 1}).merges.size(), 2u);
  EXPECT_EQ(train({}, {.vocab_size = 1000}).tokens.size(), 257u);
}

TEST(TokenizerTrainer, EveryTokenIsMadeInOneWay) {
  const TokenizerSpec spec = small_tokenizer(600);
  std::set<std::string> tokens(spec.tokens.begin(), spec.tokens.end());
  EXPECT_EQ(tokens.size(), spec.tokens.size());
  EXPECT_EQ(spec.merges.size(), spec.tokens.size() - 257);
}

TEST(TokenizerTrainer, NoRoomForTheBytesIsAnError) {
  EXPECT_THROW(train({"a"}, {.vocab_size = 256}), Error);
  EXPECT_THROW(train({"a"}, {.vocab_size = -1}), Error);
  EXPECT_THROW(train({"a"}, {.special_tokens = {"<s>", "<s>"}}), Error);
  EXPECT_THROW(train({"a"}, {.special_tokens = {""}}), Error);
  EXPECT_THROW(train({"a"}, {.special_tokens = {"a"}}), Error);
}

TEST(TokenizerTrainer, OneEndlessWordTakesNoQuadraticTime) {
  EXPECT_GT(train({std::string(4'000'000, 'a'), random_bytes(1, 2'000'000)}, {.vocab_size = 2000})
                .merges.size(),
            100u);
}

TEST(TokenizerTrainer, TellsHowFarItIs) {
  std::set<std::string> stages;
  const std::string_view text = "abababab";
  train_tokenizer({&text, 1}, {.vocab_size = 258},
                  [&](std::string_view stage, double done, double total) {
                    stages.emplace(stage);
                    EXPECT_LE(done, total);
                  });
  EXPECT_EQ(stages, (std::set<std::string>{"count words", "learn tokens"}));
}

TEST(WordCount, CountsPiecesAndCutsEndlessOnes) {
  const std::string text = "the the x" + std::string(600, 'a');
  const std::string_view view = text;
  const WordCounts counts = count_words({&view, 1}, {spec::PreTokenizer{}}, 1, [](size_t) {});
  EXPECT_EQ(counts.at("the"), 1);
  EXPECT_EQ(counts.at(" the"), 1);
  EXPECT_EQ(counts.at(std::string(256, 'a')), 1);
  EXPECT_EQ(counts.at(" x" + std::string(254, 'a')), 1);
  EXPECT_EQ(counts.at(std::string(90, 'a')), 1);
}

}  // namespace
}  // namespace moiety::text
