#include "text/characters.h"

#include <algorithm>

#include "text/utf8.h"

namespace moiety::text {

void CharacterTable::set(char32_t code, int32_t value) {
  uint16_t& page = pages_[code >> 8];
  if (page == 0) {
    page = static_cast<uint16_t>(values_.size() / 256);
    values_.resize(values_.size() + 256, -1);
  }
  values_[page << 8 | (code & 0xff)] = value;
}

bool is_found_in_text(const spec::TokenizerSpec& spec, int32_t id) {
  const spec::TokenType type = spec.type_of(id);
  return !spec.tokens[id].empty() &&
         (type == spec::TokenType::Normal || type == spec::TokenType::UserDefined);
}

CharacterTable character_tokens(const spec::TokenizerSpec& spec, std::string_view before,
                                std::string_view after) {
  CharacterTable table;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    std::string_view token = spec.tokens[id];
    const size_t around = before.size() + after.size();
    if (token.size() <= around || token.size() > around + 4 || !token.starts_with(before) ||
        !token.ends_with(after) || !is_found_in_text(spec, static_cast<int32_t>(id)))
      continue;
    token = token.substr(before.size(), token.size() - around);
    const Utf8Char only = utf8_char(token, 0);
    if (only.kind == Utf8Char::Kind::Valid && only.bytes == token.size())
      table.set(only.code, static_cast<int32_t>(id));
  }
  return table;
}

std::array<int32_t, 256> byte_tokens(const spec::TokenizerSpec& spec) {
  std::array<int32_t, 256> tokens;
  tokens.fill(-1);
  if (!spec.byte_fallback) return tokens;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    const int byte = spec::byte_of_token(token);
    // Only as it is usually spelt: <0xAB>, not <0xab>.
    if (byte >= 0 && std::none_of(token.begin() + 3, token.end(),
                                  [](char c) { return c >= 'a' && c <= 'f'; }))
      tokens[byte] = static_cast<int32_t>(id);
  }
  return tokens;
}

bool append_byte_tokens(const std::array<int32_t, 256>& tokens, std::string_view text,
                        std::vector<int32_t>& ids) {
  const auto token_of = [&](char c) { return tokens[static_cast<uint8_t>(c)]; };
  if (std::any_of(text.begin(), text.end(), [&](char c) { return token_of(c) < 0; })) return false;
  for (const char c : text) ids.push_back(token_of(c));
  return true;
}

}  // namespace moiety::text
