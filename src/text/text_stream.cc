#include "text/text_stream.h"

#include "text/utf8.h"

namespace moiety::text {

std::string TextStream::push(int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  pending_ += tokenizer_->token_bytes(id);

  // Only the last character can be cut off; what looks cut before it is invalid.
  size_t complete = 0;
  while (complete < pending_.size()) {
    const Utf8Char next = utf8_char(pending_, complete);
    if (next.kind == Utf8Char::Kind::Cut) break;
    complete += next.bytes;
  }
  std::string text = replace_invalid(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string TextStream::finish() {
  std::string text = replace_invalid(pending_);
  pending_.clear();
  return text;
}

}  // namespace moiety::text
