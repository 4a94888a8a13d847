// The bytes of all tokens as a tree, so that what tokens begin with alike is looked at once.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace moiety::grammar {

// Constant after construction; one serves all requests of a tokenizer.
class Vocabulary {
 public:
  // Special tokens stand for kSpecialMark and their text (see grammar.h).
  explicit Vocabulary(const text::Tokenizer& tokenizer);
  // token_bytes[id]; empty: never comes.
  explicit Vocabulary(const std::vector<std::string>& token_bytes);

  size_t size() const { return bytes_begin_.size() - 1; }
  std::string_view bytes(int32_t token) const {
    if (token < 0 || static_cast<size_t>(token) >= size()) return {};
    return std::string_view(bytes_).substr(bytes_begin_[token], bytes_begin_[token + 1] - bytes_begin_[token]);
  }

  // Nodes in the order of a walk that goes deep first; a node is followed by the nodes below it.
  struct Node {
    uint32_t end;          // the first node that is not below it
    uint32_t tokens_end;   // of tokens(): its own are those since the node before
    uint16_t depth;        // bytes on the way to it, its own included
    uint8_t byte;
  };
  std::span<const Node> nodes() const { return nodes_; }
  // By node; several tokens may be of the same bytes.
  std::span<const int32_t> tokens() const { return tokens_; }
  size_t depth() const { return depth_; }  // of the deepest node

 private:
  void build(const std::vector<std::string>& token_bytes);

  std::string bytes_;
  std::vector<size_t> bytes_begin_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t depth_ = 0;
};

}  // namespace moiety::grammar
