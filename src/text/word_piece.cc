#include "text/word_piece.h"

#include <algorithm>

#include "text/characters.h"

namespace moiety::text {

WordPiece::WordPiece(const spec::TokenizerSpec& spec)
    : unknown_(spec.unknown), longest_word_(spec.longest_word) {
  std::vector<std::pair<std::string_view, int32_t>> first, next;
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    if (!is_found_in_text(spec, id)) continue;
    const std::string_view token = spec.tokens[id];
    first.emplace_back(token, id);
    if (token.starts_with(spec.word_prefix))
      next.emplace_back(token.substr(spec.word_prefix.size()), id);
  }
  first_ = ByteTrie(std::move(first));
  next_ = ByteTrie(std::move(next));
}

void WordPiece::encode(std::string_view piece, Scratch&, std::vector<int32_t>& ids) const {
  const auto characters = std::count_if(piece.begin(), piece.end(), [](char c) {
    return (static_cast<uint8_t>(c) & 0xc0) != 0x80;
  });
  const size_t before = ids.size();
  size_t at = 0;
  while (at < piece.size() && characters <= longest_word_) {
    size_t longest = 0;
    int32_t token = -1;
    (at == 0 ? first_ : next_).for_each_prefix(piece, at, [&](size_t length, int32_t id) {
      longest = length;
      token = id;
    });
    if (longest == 0) break;
    ids.push_back(token);
    at += longest;
  }
  if (at == piece.size()) return;
  ids.resize(before);
  if (unknown_ >= 0) ids.push_back(unknown_);
}

}  // namespace moiety::text
