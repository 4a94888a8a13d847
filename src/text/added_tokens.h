// Finds the texts that are tokens whatever stands around them ("<|im_start|>"), in one pass over
// the text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"

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
  void split(std::string_view text, std::vector<Part>& parts) const;

  bool empty() const { return tokens_.empty(); }

 private:
  // The contents as a tree of bytes: the children of a node are a chain of siblings.
  struct Node {
    uint8_t byte = 0;
    int32_t token = -1;  // index into tokens_ of the one that ends here
    int32_t child = -1, sibling = -1;
  };
  void insert(std::string_view content, int32_t token);
  int32_t child_of(int32_t node, uint8_t byte) const;
  const spec::AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<spec::AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;  // node of the first byte, or -1
};

}  // namespace moiety::text
