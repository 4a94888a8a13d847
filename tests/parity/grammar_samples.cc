// Answers by chance as a server would let a model give them: for tests/parity/json_schema.mjs, which has an independent validator.
// Reads lines {"schema": …, "seed": N, "count": N, "documents": ["…", …]}; for each writes {"error": "…"} or
// {"samples": ["…", …], "accepted": [true, …]}: texts drawn token by token through the mask, and which documents the grammar has.
#include <algorithm>
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "grammar/json_schema.h"
#include "server/token_grammar.h"
#include "text/tokenizer_trainer.h"

using namespace moiety;

namespace {

constexpr int32_t kEnd = 0;

// Learnt from JSON, so that tokens reach across its parts; the first is <|endoftext|>.
text::Tokenizer make_tokenizer() {
  static constexpr std::string_view kText =
      "{\"name\": \"größe\", \"a\": 12, \"list\": [1, 2, 3], \"b\": {\"name\": null}} {\"name\":\"x\",\"list\":[true,false]}\n"
      "\\n \\\" \"}, {\" \"], [\" \"a\":\"b\" \"a\": \"b\", 12345 -0.5e10 2024-01-01T00:00:00Z aa bb cc abc xyz@example.org 中文 🙂";
  return text::Tokenizer(text::train_tokenizer({&kText, 1}, {.vocab_size = 420}));
}

// After `length` tokens, what closes things is preferred, so that the text ends.
std::string sample(server::TokenGrammar& constraint, const text::Tokenizer& tokenizer, Random& random, size_t length) {
  std::string text;
  for (size_t i = 0; i < 4000; ++i) {
    std::vector<float> logits(static_cast<size_t>(tokenizer.vocab_size()));
    for (float& logit : logits) logit = static_cast<float>(random.normal());
    logits[kEnd] += i < length ? -3.0f : 40.0f;
    if (i >= length && random.below(5) != 0) {
      for (const char c : std::string_view("\"}]0,:")) logits[static_cast<size_t>(*tokenizer.find(std::string(1, c)))] += 20;
    }
    // As the engine does: the mask is for those that are not allowed.
    auto token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (!constraint.allows(token)) {
      constraint.mask(logits);
      token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    constraint.accept(token);
    if (token == kEnd) return text;
    text += tokenizer.token_bytes(token);
  }
  return text + "<endless>";
}

bool accepts(grammar::Matcher& matcher, std::string_view text) {
  grammar::Matcher::State state = matcher.start();
  for (const char c : text) state = matcher.step(state, static_cast<uint8_t>(c));
  return matcher.may_end(state);
}

OrderedJson answer(const OrderedJson& task, const text::Tokenizer& tokenizer,
                   const std::shared_ptr<const grammar::Vocabulary>& vocabulary) {
  const grammar::Grammar made = grammar::json_schema_grammar(task["schema"], {.closed_objects = task.value("closed", true)});
  const auto compiled = std::make_shared<grammar::CompiledGrammar>(made, vocabulary);
  Random random(task["seed"].get<uint64_t>());
  OrderedJson samples = OrderedJson::array(), accepted = OrderedJson::array();
  for (int i = 0; i < task["count"].get<int>(); ++i) {
    server::TokenGrammar constraint(compiled, {kEnd});
    samples.push_back(sample(constraint, tokenizer, random, random.below(60)));
  }
  grammar::Matcher matcher(std::make_shared<const grammar::Automaton>(grammar::compile(made)));
  for (const OrderedJson& document : task["documents"]) accepted.push_back(accepts(matcher, document.get<std::string>()));
  return {{"samples", samples}, {"accepted", accepted}};
}

}  // namespace

int main() {
  const text::Tokenizer tokenizer = make_tokenizer();
  const auto vocabulary = std::make_shared<const grammar::Vocabulary>(tokenizer);
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(parse_ordered_json(line, "task"), tokenizer, vocabulary).dump() << "\n";
    } catch (const Error& error) {
      std::cout << OrderedJson{{"error", error.what()}}.dump() << "\n";
    }
  }
}
