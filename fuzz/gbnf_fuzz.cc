#include "fuzz.h"
#include "grammar/gbnf.h"
#include "grammar/matcher.h"

// A grammar, a zero byte, and a text to be read by it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const std::string_view input = fuzz::text_of(data, size);
    const size_t zero = input.find('\0');
    grammar::Matcher matcher(std::make_shared<const grammar::Automaton>(grammar::compile(grammar::parse_gbnf(input.substr(0, zero)))));
    matcher.allow_work(1'000'000);
    grammar::Matcher::State state = matcher.start();
    const std::string_view text = zero == input.npos ? std::string_view("aaaa bbbb {\"a\": [1, 2]}") : input.substr(zero + 1);
    for (size_t i = 0; i < text.size(); ++i) {
      const grammar::Matcher::State next = matcher.step(state, static_cast<uint8_t>(text[i]));
      if (next != grammar::Matcher::kDead) state = next;
      if (i % 64 == 63) matcher.forget_all_but({&state});
    }
  });
}
