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
  // Of tokens with the same content the first counts, so it goes last into the trie.
  std::vector<std::pair<std::string_view, int32_t>> contents;
  for (size_t i = tokens_.size(); i-- > 0;)
    contents.emplace_back(tokens_[i].content, static_cast<int32_t>(i));
  trie_ = ByteTrie(std::move(contents));
}

const spec::AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  const spec::AddedToken* longest = nullptr;
  trie_.for_each_prefix(text, at, [&](size_t, int32_t token) { longest = &tokens_[token]; });
  return longest;
}

size_t AddedTokens::longest_length_at(std::string_view text, size_t at) const {
  const spec::AddedToken* longest = longest_at(text, at);
  return longest == nullptr ? 0 : longest->content.size();
}

void AddedTokens::split(std::string_view text, std::span<const size_t> plain,
                        std::vector<Part>& parts) const {
  size_t done = 0;       // everything before this is in `parts`
  size_t space_end = 0;  // the white space that the last rstrip token took ends here
  for (size_t at = 0; at < text.size();) {
    const spec::AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    const auto barrier = std::ranges::upper_bound(plain, begin);
    if (barrier != plain.end() && *barrier < end) {
      ++at;
      continue;
    }
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
