// Token ids one by one to text that can be shown at once: never half a character.
#pragma once

#include <cstdint>
#include <string>

#include "text/decoder.h"
#include "text/tokenizer.h"

namespace moiety::text {

class TextStream {
 public:
  // The tokenizer must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), stream_(tokenizer.decoder()), skip_special_(skip_special) {}

  // What is certain now; a run of byte tokens is certain when it ends. All that push() and finish()
  // return is, in one string, what decode() makes of all ids.
  std::string push(int32_t id);
  // The rest: U+FFFD if the text ends inside a character. The stream begins anew.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  Decoder::Stream stream_;
  bool skip_special_;
};

}  // namespace moiety::text
