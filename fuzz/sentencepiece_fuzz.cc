#include "format/sentencepiece.h"

#include "fuzz.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const text::Tokenizer tokenizer(format::read_sentencepiece(bytes, "fuzz"));
    tokenizer.decode(tokenizer.encode("the ab\u00e9  12<s> \u4e2d\U0001f642\n", true), false);
  });
}
