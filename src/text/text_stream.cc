#include "text/text_stream.h"

namespace moiety::text {

std::string TextStream::push(int32_t id) {
  std::string text;
  const std::string* token = tokenizer_->token(id);
  if (token != nullptr && !(skip_special_ && tokenizer_->is_special(id)))
    stream_.push(*token, text);
  return text;
}

std::string TextStream::finish() {
  std::string text;
  stream_.finish(text);
  return text;
}

}  // namespace moiety::text
