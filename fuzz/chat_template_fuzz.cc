// A template, then a zero byte, then its context as JSON: whatever it says, it renders or is refused, and soon.
#include "fuzz.h"
#include "jinja/template.h"
#include "text/reply.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const std::string_view text = fuzz::text_of(data, size);
    const size_t zero = std::min(text.find('\0'), text.size());
    const std::string_view json = zero < text.size() ? text.substr(zero + 1) : std::string_view("{}");
    const jinja::Template parsed(text.substr(0, zero), "fuzz");
    const jinja::Limits small{.steps = 200'000, .bytes = 8 << 20, .depth = 200};
    const std::string prompt = parsed.render(jinja::Context::parse(json, "context"), {}, small);

    // What a template makes may look like an answer as well; nothing of it may be lost.
    for (const bool in_pieces : {false, true}) {
      text::ReplyFormat format = text::reply_format(text, prompt);
      format.calls_in_pieces = in_pieces;
      text::ReplyParser parser(format);
      std::string joined;
      for (const auto& part : parser.push(prompt)) joined += part.text;
      for (const auto& part : parser.finish()) joined += part.text;
      if (joined != prompt) __builtin_trap();
    }
  });
}
