#include "server/token_grammar.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/test_support.h"
#include "grammar/tool_grammar.h"
#include "text/reply.h"
#include "text/tokenizer_trainer.h"

namespace moiety::server {
namespace {

using grammar::CompiledGrammar;
using grammar::Vocabulary;

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Learnt from JSON, so that tokens reach across its parts; 0 is <|endoftext|>.
const text::Tokenizer& tokenizer() {
  static const text::Tokenizer made = [] {
    static constexpr std::string_view kText =
        "{\"name\": \"größe\", \"size\": 12, \"list\": [1, 2, 3], \"size\": {\"name\": null}} {\"name\":\"x\",\"list\":[true,false]}\n"
        "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"中文 🙂 router\"}}\n</tool_call> \\n \\\" \"}, {\" \"], [\" 12345 -0.5e10";
    return text::Tokenizer(text::train_tokenizer({&kText, 1}, {.vocab_size = 420}));
  }();
  return made;
}

std::shared_ptr<const Vocabulary> vocabulary() {
  static const auto made = std::make_shared<const Vocabulary>(tokenizer());
  return made;
}

std::shared_ptr<CompiledGrammar> compiled(const grammar::Grammar& grammar) {
  return std::make_shared<CompiledGrammar>(grammar, vocabulary());
}

std::vector<float> random_logits(Random& random) {
  std::vector<float> logits(static_cast<size_t>(tokenizer().vocab_size()) + 3);
  for (float& logit : logits) logit = static_cast<float>(random.normal());
  return logits;
}

std::string drive(TokenGrammar& constraint, Random& random, size_t length) {
  std::string text;
  for (size_t i = 0; i < 3000; ++i) {
    std::vector<float> logits = random_logits(random);
    if (i >= length) {
      for (const char c : std::string_view("\"}]0,:")) logits[static_cast<size_t>(*tokenizer().find(std::string(1, c)))] += 20;
      logits[0] += 40;
    } else {
      logits[0] -= 5;
    }
    constraint.mask(logits);
    const auto token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (logits[static_cast<size_t>(token)] == kNever) return text + "<stuck>";
    constraint.accept(token);
    if (token == 0) return text;
    text += tokenizer().token_bytes(token);
  }
  return text + "<endless>";
}

RC_GTEST_PROP(TokenGrammar, MasksWhatItDoesNotAllow, (uint64_t seed)) {
  Random random(seed);
  const auto grammar = compiled(random.below(2) ? grammar::json_object_grammar() : grammar::parse_gbnf("root ::= ([a-zé] | \"<\" .){0,20} \"!\"?"));
  TokenGrammar constraint(grammar, {0});
  for (int i = 0; i < 12; ++i) {
    const std::vector<float> logits = random_logits(random);
    std::vector<float> masked = logits;
    constraint.mask(masked);
    for (size_t token = 0; token < logits.size(); ++token) {
      const bool is_allowed = constraint.allows(static_cast<int32_t>(token));
      RC_ASSERT(masked[token] == (is_allowed ? logits[token] : kNever));
    }
    const auto best = static_cast<int32_t>(std::max_element(masked.begin(), masked.end()) - masked.begin());
    constraint.accept(best);
    if (best == 0) return;
  }
}

RC_GTEST_PROP(TokenGrammar, AnswersByChanceParse, (uint64_t seed)) {
  Random random(seed);
  TokenGrammar constraint(compiled(grammar::json_object_grammar()), {0});
  const std::string text = drive(constraint, random, random.below(60));
  RC_ASSERT(OrderedJson::parse(text, nullptr, false).is_object());
}

TEST(TokenGrammar, EndsExactlyWhereTheGrammarMay) {
  TokenGrammar constraint(compiled(grammar::parse_gbnf("root ::= \"a\" \"b\"?")), {0});
  EXPECT_FALSE(constraint.allows(0));
  EXPECT_THROW(constraint.accept(0), Error);
  constraint.accept(*tokenizer().find("a"));
  EXPECT_TRUE(constraint.allows(0));
  constraint.accept(*tokenizer().find("b"));
  std::vector<float> logits(static_cast<size_t>(tokenizer().vocab_size()), 1.0f);
  constraint.mask(logits);
  for (size_t token = 0; token < logits.size(); ++token) EXPECT_EQ(logits[token], token == 0 ? 1.0f : kNever);
  EXPECT_THROW(constraint.accept(*tokenizer().find("b")), Error);
  EXPECT_NO_THROW(constraint.accept(0));
}

// Requests that share a grammar don't see each other, also when so much is found out that most of it is forgotten.
TEST(TokenGrammar, RequestsShareAGrammarAndNotTheirPlaces) {
  const auto shared = compiled(grammar::parse_gbnf("root ::= \"x\" ([a-z]{0,100000} | [a-y0-9]{0,100000}) \"!\""));
  TokenGrammar early(shared, {0}), late(shared, {0});
  early.accept(*tokenizer().find("x"));
  late.accept(*tokenizer().find("x"));
  late.accept(*tokenizer().find("z"));
  for (int i = 0; i < 60'000; ++i) late.accept(*tokenizer().find("b"));
  EXPECT_TRUE(early.allows(*tokenizer().find("1")));
  EXPECT_FALSE(late.allows(*tokenizer().find("1")));
  EXPECT_TRUE(late.allows(*tokenizer().find("z")));
  late.accept(*tokenizer().find("!"));
  EXPECT_TRUE(late.may_end());
  EXPECT_FALSE(early.may_end());
}

TEST(TokenGrammar, WhatTheVocabularyCannotWriteIsAnError) {
  const auto bare = std::make_shared<const Vocabulary>(std::vector<std::string>{"", "a"});
  TokenGrammar constraint(std::make_shared<CompiledGrammar>(grammar::parse_gbnf("root ::= \"a\" \"b\""), bare), {0});
  std::vector<float> logits(2, 0.0f);
  EXPECT_NO_THROW(constraint.mask(logits));
  constraint.accept(1);
  EXPECT_THROW(constraint.mask(logits), Error);
  EXPECT_THROW(TokenGrammar(compiled(grammar::json_object_grammar()), {}), Error);
}

TEST(TokenGrammar, AmbiguityEndsTheRequestInBoundedWork) {
  const auto ambiguous = compiled(grammar::parse_gbnf("root ::= s \"!\"\ns ::= \"a\" s \"b\" s | \"a\" s \"c\" s | \"a\" s s \"d\" | \"a\""));
  TokenGrammar constraint(ambiguous, {0});
  EXPECT_THROW(
      {
        std::vector<float> logits(static_cast<size_t>(tokenizer().vocab_size()));
        for (int i = 0; i < 100'000; ++i) {
          constraint.mask(logits);
          constraint.accept(*tokenizer().find("a"));
        }
      },
      Error);
}

TEST(TokenGrammar, SpecialTokensComeOnlyWhereTheyAreAskedFor) {
  TokenGrammar anything(compiled(grammar::parse_gbnf("root ::= .*")), {1});
  EXPECT_FALSE(anything.allows(0));
  TokenGrammar marked(compiled(grammar::parse_gbnf("root ::= <|endoftext|> .*")), {1});
  EXPECT_TRUE(marked.allows(0));
  EXPECT_FALSE(marked.allows(*tokenizer().find("<")));
}

TEST(GrammarCache, KeepsTheLatest) {
  grammar::GrammarCache cache(vocabulary());
  int made = 0;
  const auto make = [&] { return ++made, grammar::json_object_grammar(); };
  const auto first = cache.get("a", make);
  EXPECT_EQ(cache.get("a", make), first);
  for (int i = 0; i < 20; ++i) cache.get(std::to_string(i), make);
  EXPECT_EQ(made, 21);
  EXPECT_NE(cache.get("a", make), first);
  EXPECT_THROW(cache.get("b", [&]() -> grammar::Grammar { return grammar::parse_gbnf("x"); }), Error);
}

const std::vector<grammar::Tool> kTools = {
    {"search", OrderedJson::parse(R"({"type": "object", "properties": {"query": {"type": "string", "maxLength": 5}}, "required": ["query"]})")},
    {"stop", OrderedJson::object()}};

// What the answer's reader makes of it.
void expect_calls(const std::string& text, const grammar::ToolFormat& format, bool text_before) {
  text::ReplyFormat reply;
  if (!format.open.empty()) reply.tool_blocks.push_back({format.open, format.close});
  reply.bare_json_calls = format.open.empty();
  text::ReplyParser parser(reply);
  text::Reply read;
  for (const text::ReplyPart& part : parser.push(text)) read.add(part);
  for (const text::ReplyPart& part : parser.finish()) read.add(part);
  read.trim();
  RC_LOG() << text;
  RC_ASSERT(!read.tool_calls.empty());
  RC_ASSERT(text_before || read.content.empty());
  for (const text::ToolCall& call : read.tool_calls) {
    const auto arguments = OrderedJson::parse(call.arguments, nullptr, false);
    RC_ASSERT(arguments.is_object());
    RC_ASSERT(call.name == "stop" || (call.name == "search" && arguments["query"].is_string()));
  }
}

RC_GTEST_PROP(ToolGrammar, CallsByChanceAreRead, (uint64_t seed)) {
  const std::vector<grammar::ToolFormat> formats = {{.open = "<tool_call>", .close = "</tool_call>"},
                                                    {.arguments_key = "parameters"},
                                                    {.open = "[TOOL_CALLS]", .is_list = true},
                                                    {.open = "[TOOL_CALLS]", .separator = "[ARGS]"}};
  Random random(seed);
  const grammar::ToolFormat& format = formats[random.below(formats.size())];
  const bool text_before = !format.open.empty() && random.below(2);
  const bool several = format.separator.empty();
  const auto calls = compiled(grammar::tool_grammar(kTools, format, {.text_before = text_before, .several = several}));
  grammar::Matcher matcher = grammar::matcher_of(grammar::tool_grammar(kTools, format, {.text_before = text_before, .several = several}));
  if (text_before) {
    RC_ASSERT(grammar::accepts(matcher, "I <tool_cal [TOOL <tool_call", false));
    RC_ASSERT(!grammar::accepts(matcher, "I do"));
    RC_ASSERT(!grammar::accepts(matcher, format.open + "x", false));
    RC_ASSERT(!grammar::accepts(matcher, "<<to" + format.open + "x", false));
  }
  TokenGrammar constraint(calls, {0});
  Random words(seed + 1);
  std::string text;
  if (text_before) {
    for (const int32_t token : tokenizer().encode("hm <t" + format.open, false)) {
      constraint.accept(token);
      text += tokenizer().token_bytes(token);
    }
  }
  expect_calls(text + drive(constraint, words, random.below(30)), format, text_before);
}

TEST(ToolGrammar, MarkersMayBeSpecialTokens) {
  const grammar::ToolFormat format{.open = "<tool_call>\n", .close = "</tool_call>"};
  for (const bool text_before : {false, true}) {
    grammar::Matcher matcher = grammar::matcher_of(
        grammar::tool_grammar(kTools, format, {.text_before = text_before, .special_tokens = {"<tool_call>", "</tool_call>"}}));
    EXPECT_TRUE(grammar::accepts(matcher, "\xff<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\xff</tool_call>"));
    EXPECT_TRUE(grammar::accepts(matcher, "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>"));
    EXPECT_EQ(grammar::accepts(matcher, "<tool \xff<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>"), text_before);
  }
  EXPECT_THROW(grammar::tool_grammar({}, format), Error);
  EXPECT_THROW(grammar::tool_grammar(kTools, {}, {.text_before = true}), Error);
}

}  // namespace
}  // namespace moiety::server
