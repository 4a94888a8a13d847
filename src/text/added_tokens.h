// Finds the texts that are tokens whatever stands around them ("<|im_start|>"), in one pass over
// the text.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"

namespace moiety::text {

class AddedTokens {
 public:
  // Looks for the contents as they are; an empty one is never found.
  explicit AddedTokens(std::vector<spec::AddedToken> tokens);

  struct Part {
    std::string_view text;
    int32_t id = -1;  // of the added token; -1: ordinary text
  };
  // Cuts `text` into added tokens and what lies between them: at each place the longest that begins
  // there. Appends to `parts`. The time is that of the text's length times the longest token's.
  // Tokens that reach across one of the offsets `plain`, ascending, are passed over.
  void split(std::string_view text, std::span<const size_t> plain, std::vector<Part>& parts) const;

  // Bytes of the longest one that begins at `at`; 0 if none does.
  size_t longest_length_at(std::string_view text, size_t at) const;

  bool empty() const { return tokens_.empty(); }

 private:
  const spec::AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<spec::AddedToken> tokens_;
  ByteTrie trie_;  // of the contents, to indices of tokens_
};

}  // namespace moiety::text
