#include "text/added_tokens.h"

#include <algorithm>

#include "text/utf8.h"

namespace moiety::text {
namespace {

char32_t char_before(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
  return utf8_char(text, begin).code;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word(char_before(text, begin))) ||
         (end < text.size() && is_word(utf8_char(text, end).code));
}

// Where the white space that ends at `at` begins, not looking before `floor`.
size_t white_space_begin(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    size_t begin = at - 1;
    while (begin > floor && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
    if (!is_white_space(utf8_char(text, begin).code)) break;
    at = begin;
  }
  return at;
}

size_t white_space_end(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char next = utf8_char(text, at);
    if (!is_white_space(next.code)) break;
    at += next.bytes;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<spec::AddedToken> tokens) : tokens_(std::move(tokens)) {
  roots_.fill(-1);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (!tokens_[i].content.empty()) insert(tokens_[i].content, static_cast<int32_t>(i));
  }
}

int32_t AddedTokens::child_of(int32_t node, uint8_t byte) const {
  int32_t child = nodes_[node].child;
  while (child >= 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

void AddedTokens::insert(std::string_view content, int32_t token) {
  const auto new_node = [&](uint8_t byte, int32_t sibling) {
    nodes_.push_back({.byte = byte, .sibling = sibling});
    return static_cast<int32_t>(nodes_.size() - 1);
  };
  const uint8_t first = static_cast<uint8_t>(content[0]);
  if (roots_[first] < 0) roots_[first] = new_node(first, -1);
  int32_t node = roots_[first];
  for (const char c : content.substr(1)) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t child = child_of(node, byte);
    if (child < 0) {
      child = new_node(byte, nodes_[node].child);
      nodes_[node].child = child;
    }
    node = child;
  }
  if (nodes_[node].token < 0) nodes_[node].token = token;
}

const spec::AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  int32_t longest = -1;
  int32_t node = roots_[static_cast<uint8_t>(text[at])];
  while (node >= 0) {
    if (nodes_[node].token >= 0) longest = nodes_[node].token;
    if (++at == text.size()) break;
    node = child_of(node, static_cast<uint8_t>(text[at]));
  }
  return longest < 0 ? nullptr : &tokens_[longest];
}

void AddedTokens::split(std::string_view text, std::vector<Part>& parts) const {
  size_t done = 0;       // everything before this is in `parts`
  size_t space_end = 0;  // the white space that the last rstrip token took ends here
  for (size_t at = 0; at < text.size();) {
    const spec::AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word && touches_word(text, begin, end)) continue;
    if (token->lstrip)
      begin = std::max(done, white_space_begin(text, begin, std::min(done, begin)));
    if (token->rstrip) end = space_end = end <= space_end ? space_end : white_space_end(text, end);

    if (begin > done) parts.push_back({text.substr(done, begin - done)});
    parts.push_back({text.substr(std::min(begin, end), end - std::min(begin, end)), token->id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
}

}  // namespace moiety::text
