#include "grammar/vocabulary.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "grammar/grammar.h"

namespace moiety::grammar {

Vocabulary::Vocabulary(const text::Tokenizer& tokenizer) {
  std::vector<std::string> token_bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string* text = tokenizer.token(id);
    if (tokenizer.is_special(id) && text != nullptr) {
      token_bytes.push_back(kSpecialMark + *text);
    } else {
      token_bytes.emplace_back(tokenizer.token_bytes(id));
    }
  }
  build(token_bytes);
}

Vocabulary::Vocabulary(const std::vector<std::string>& token_bytes) {
  build(token_bytes);
}

void Vocabulary::build(const std::vector<std::string>& token_bytes) {
  bytes_begin_ = {0};
  for (const std::string& bytes : token_bytes) {
    require(bytes.size() < UINT16_MAX, "a token of {} bytes", bytes.size());
    bytes_ += bytes;
    bytes_begin_.push_back(bytes_.size());
  }

  std::vector<int32_t> sorted(token_bytes.size());
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) { return token_bytes[a] < token_bytes[b]; });

  std::vector<uint32_t> path;  // nodes from the top to the last one
  std::string_view last;
  const auto close_to = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  for (const int32_t token : sorted) {
    const std::string& bytes = token_bytes[token];
    if (bytes.empty()) continue;
    const auto [differs, rest] = std::mismatch(last.begin(), last.end(), bytes.begin(), bytes.end());
    close_to(static_cast<size_t>(differs - last.begin()));
    for (size_t i = path.size(); i < bytes.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.end = 0, .tokens_end = static_cast<uint32_t>(tokens_.size()), .depth = static_cast<uint16_t>(i + 1),
                        .byte = static_cast<uint8_t>(bytes[i])});
    }
    tokens_.push_back(token);
    nodes_.back().tokens_end = static_cast<uint32_t>(tokens_.size());
    depth_ = std::max(depth_, bytes.size());
    last = bytes;
  }
  close_to(0);
}

}  // namespace moiety::grammar
