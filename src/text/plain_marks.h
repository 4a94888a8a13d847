// What people write into a conversation is text, though it spells a special token such as "<|im_end|>": marks are put into such texts
// before a chat template makes a prompt of them, and tell in the prompt where no token is meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/ordered_json.h"
#include "text/tokenizer.h"

namespace moiety::text {

// A prompt, and where it is not what it looks like: offsets in bytes, ascending, within texts that spell special tokens (Tokenizer::encode).
struct PlainMarked {
  std::string text;
  std::vector<size_t> plain;
};

// A mark that nobody can guess. Throws Error(Io) if the system has no random bytes.
std::string make_mark();

class PlainMarks {
 public:
  // `mark` is a text of digits, which templates leave as they are. The tokenizer must outlive it.
  PlainMarks(const Tokenizer& tokenizer, std::string mark) : tokenizer_(tokenizer), mark_(std::move(mark)) {}

  // Marks all texts in it, names as well.
  OrderedJson put(const OrderedJson& json) const;
  std::string put(std::string_view text) const;
  // Takes the marks out again.
  PlainMarked take(std::string_view prompt) const;

 private:
  const Tokenizer& tokenizer_;
  std::string mark_;
};

}  // namespace moiety::text
