// What constrained output costs a token, with a real vocabulary.
//   grammar_benchmark TOKENIZER.json
// Microseconds, medians: compiling a schema, whether one token may come, and a mask over all of the vocabulary, when it is
// computed (cold, from states that nothing is known of) and when it was before. Inside a JSON string nearly all tokens may come:
// the most there is to do.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "base/file.h"
#include "format/tokenizer_json.h"
#include "grammar/compiled_grammar.h"
#include "grammar/json_schema.h"

using namespace moiety;

namespace {

constexpr std::string_view kSchema = R"({"type": "object", "properties": {"name": {"type": "string"}, "code": {"type": "string", "maxLength": 200},
  "size": {"type": "integer", "minimum": 0, "maximum": 100}, "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
  "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["name", "code"], "additionalProperties": false})";

double median_microseconds(int times, const std::function<void()>& prepare, const std::function<void()>& work) {
  std::vector<double> all;
  for (int i = 0; i < times; ++i) {
    prepare();
    const auto begin = std::chrono::steady_clock::now();
    work();
    all.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(all.begin(), all.begin() + times / 2, all.end());
  return all[static_cast<size_t>(times) / 2];
}

using Position = grammar::CompiledGrammar::Position;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return fmt::print(stderr, "usage: grammar_benchmark TOKENIZER.json\n"), 2;
  const text::Tokenizer tokenizer(format::read_tokenizer_json(MappedFile(argv[1]).text(), argv[1]));
  std::shared_ptr<const grammar::Vocabulary> vocabulary;
  const double build = median_microseconds(5, [] {}, [&] { vocabulary = std::make_shared<const grammar::Vocabulary>(tokenizer); });
  fmt::print("{} tokens, {} nodes of their tree, built in {:.0f} us\n", vocabulary->size(), vocabulary->nodes().size(), build);

  const auto schema = parse_ordered_json(kSchema, "schema");
  std::shared_ptr<grammar::CompiledGrammar> compiled;
  const auto compile = [&] { compiled = std::make_shared<grammar::CompiledGrammar>(grammar::json_schema_grammar(schema), vocabulary); };
  fmt::print("compile a schema             {:8.1f}\n", median_microseconds(51, [] {}, compile));

  const std::pair<const char*, const char*> places[] = {
      {"at the start", ""}, {"inside a string", "{\"name\": \"A man"}, {"inside a counted string", "{\"name\": \"x\", \"code\": \"ab"}, {"inside a number", "{\"name\": \"x\", \"code\": \"\", \"size\": 1"}};
  fmt::print("{:28} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "", "mask", "masked", "allows", "known", "allowed");
  for (const auto& [name, text] : places) {
    std::unique_ptr<Position> position;
    std::vector<float> logits(vocabulary->size());
    const auto fresh = [&] {
      compile();
      position = std::make_unique<Position>(compiled);
      for (const int32_t token : tokenizer.encode(text, false)) position->accept(token);
      std::fill(logits.begin(), logits.end(), 0.0f);
    };
    const auto mask = [&] { position->mask(logits); };
    const int32_t token = tokenizer.encode(" value", false)[0];
    const auto allows = [&] { position->allows(token); };
    const double cold = median_microseconds(15, fresh, mask);
    const auto allowed = std::count(logits.begin(), logits.end(), 0.0f);
    const double cached = median_microseconds(51, [&] { std::fill(logits.begin(), logits.end(), 0.0f); }, mask);
    const double cold_allows = median_microseconds(51, fresh, allows);
    const double known_allows = median_microseconds(51, [] {}, allows);
    fmt::print("{:28} {:8.1f} {:8.1f} {:8.2f} {:8.2f} {:8}\n", name, cold, cached, cold_allows, known_allows, allowed);
  }
}
