// The tokens that single characters and bytes are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::text {

// A number for some characters, -1 for the rest; a table of pages.
class CharacterTable {
 public:
  int32_t operator[](char32_t code) const { return values_[pages_[code >> 8] << 8 | (code & 0xff)]; }
  void set(char32_t code, int32_t value);

 private:
  std::array<uint16_t, 0x1100> pages_{};  // page 0 of `values_` is empty
  std::vector<int32_t> values_ = std::vector<int32_t>(256, -1);
};

// Of the tokens that may be found in text, those that are one character between `before` and
// `after`.
CharacterTable character_tokens(const spec::TokenizerSpec& spec, std::string_view before = {},
                                std::string_view after = {});

// The tokens <0x00> to <0xFF>, -1 where there is none; all -1 without byte fallback.
std::array<int32_t, 256> byte_tokens(const spec::TokenizerSpec& spec);

// Whether text can become this token by splitting.
bool is_found_in_text(const spec::TokenizerSpec& spec, int32_t id);

// Appends the tokens of all bytes of `text`; false and nothing if one of them has none.
bool append_byte_tokens(const std::array<int32_t, 256>& tokens, std::string_view text,
                        std::vector<int32_t>& ids);

}  // namespace moiety::text
