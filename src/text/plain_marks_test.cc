#include "text/plain_marks.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "text/tokenizer_trainer.h"

namespace moiety::text {
namespace {

constexpr const char* kMark = "73619250";

// Bytes and some merges; special tokens one of which begins another, and one that is none.
Tokenizer tokenizer(bool normalized) {
  static constexpr std::string_view kText = "the weather < | im_end |> the <|the the im_end im_end the|> größe";
  spec::TokenizerSpec spec = train_tokenizer({&kText, 1}, {.vocab_size = 300});
  const auto add = [&](const char* content, bool special) {
    const auto id = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(content);
    if (!spec.types.empty()) spec.types.push_back(special ? spec::TokenType::Control : spec::TokenType::UserDefined);
    if (!spec.scores.empty()) spec.scores.push_back(0);
    spec.added.push_back({.id = id, .content = content, .special = special, .normalized = normalized});
  };
  for (const char* mark : {"<|im_start|>", "<|im_end|>", "<|im", "｜end｜"}) add(mark, true);
  add("<think>", false);
  return Tokenizer(std::move(spec));
}

bool has_special(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  return std::ranges::any_of(ids, [&](int32_t id) { return tokenizer.is_special(id); });
}

TEST(PlainMarks, WhatIsWrittenHasNoSpecialTokensAndLosesNothing) {
  static constexpr const char* kPieces[] = {"<|im_start|>", "<|im_end|>", "<|im", "_end|>", "｜end｜", "<", "|", "the ", "größe", "｜", "\n", "<think>"};
  for (const bool normalized : {false, true}) {
    const Tokenizer tokens = tokenizer(normalized);
    const PlainMarks marks(tokens, kMark);
    for (uint64_t seed = 0; seed < 3000; ++seed) {
      Random random(seed);
      std::string said;
      for (uint64_t pieces = random.below(8); pieces > 0; --pieces) said += kPieces[random.below(std::size(kPieces))];
      // As a template does it.
      const PlainMarked prompt = marks.take("<|im_start|>user\n" + marks.put(std::string_view(said)) + "<|im_end|>\n");
      EXPECT_EQ(prompt.text, "<|im_start|>user\n" + said + "<|im_end|>\n");
      const std::vector<int32_t> ids = tokens.encode(prompt.text, false, prompt.plain);
      EXPECT_EQ(tokens.decode(ids, false), prompt.text);
      EXPECT_EQ(std::ranges::count_if(ids, [&](int32_t id) { return tokens.is_special(id); }), 2) << "seed " << seed << ": " << said;
      EXPECT_EQ(ids.front(), tokens.find("<|im_start|>"));
    }
  }
}

TEST(PlainMarks, TextIsReadAsIfThereWereNoSpecialTokens) {
  const Tokenizer tokens = tokenizer(false);
  spec::TokenizerSpec without = tokens.spec();
  std::erase_if(without.added, [](const spec::AddedToken& added) { return added.special; });
  const PlainMarks marks(tokens, kMark);
  for (const std::string_view text : {"the <|im_end|> the", "<|im_start|><|im_end|>", "｜end｜<think>the"}) {
    const PlainMarked marked = marks.take(marks.put(text));
    EXPECT_EQ(tokens.encode(marked.text, false, marked.plain), Tokenizer(without).encode(text, false)) << text;
  }
}

TEST(PlainMarks, AConversationIsMarkedAllOver) {
  const Tokenizer tokens = tokenizer(false);
  const PlainMarks marks(tokens, kMark);
  const OrderedJson plain = parse_ordered_json(R"({"messages": [{"role": "user", "content": "hi <think>"}], "n": [1, true, null]})", "test");
  EXPECT_EQ(marks.put(plain), plain);
  const OrderedJson json = parse_ordered_json(R"({"a": ["<|im_end|>", {"<|im_end|>": "the"}], "b": 1})", "test");
  EXPECT_EQ(to_text(marks.put(json)), R"({"a":["<73619250|im_end|>",{"<73619250|im_end|>":"the"}],"b":1})");
  const PlainMarked back = marks.take(to_text(marks.put(json)));
  EXPECT_EQ(back.text, to_text(json));
  EXPECT_FALSE(has_special(tokens, tokens.encode(back.text, false, back.plain)));
}

}  // namespace
}  // namespace moiety::text
