#include "fuzz.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"

// A schema; a text by chance of what it allows must be JSON. The first byte says how the schema is read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  if (size == 0) return 0;
  return fuzz::refuse_or([&] {
    const grammar::SchemaOptions options{.closed_objects = (data[0] & 1) != 0, .ignore_unsupported = (data[0] & 2) != 0};
    const auto schema = parse_ordered_json(fuzz::text_of(data + 1, size - 1), "fuzz");
    grammar::Matcher matcher(std::make_shared<const grammar::Automaton>(grammar::compile(grammar::json_schema_grammar(schema, options))));
    matcher.allow_work(1'000'000);
    grammar::Matcher::State state = matcher.start();
    std::string text;
    for (size_t i = 0; i < 200 && !matcher.may_end(state); ++i) {
      int byte = -1;
      for (int tried = 0; tried < 256 && byte < 0; ++tried) {
        const auto next = static_cast<uint8_t>(data[i % size] * 7 + tried);
        if (matcher.step(state, next) != grammar::Matcher::kDead) byte = next;
      }
      // What has begun can be ended: some byte leads on.
      if (byte < 0) __builtin_trap();
      text += static_cast<char>(byte);
      state = matcher.step(state, static_cast<uint8_t>(byte));
    }
    if (matcher.may_end(state) && !OrderedJson::accept(text)) __builtin_trap();
  });
}
