// Token ids one by one to text that can be shown at once: never half a character.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace moiety::text {

class TextStream {
 public:
  // The tokenizer must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // What is complete now. All that push() and finish() return is, in one string, what decode()
  // makes of all ids.
  std::string push(int32_t id);
  // The rest: U+FFFD if the text ends inside a character. The stream is empty afterwards.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // the beginning of a character
};

}  // namespace moiety::text
