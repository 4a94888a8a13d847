// UTF-8 one character at a time: valid, invalid, or cut off by the end of the text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moiety::text {

struct Utf8Char {
  enum class Kind {
    Valid,
    Invalid,  // `bytes` is the longest part that could have begun a character: one U+FFFD stands
              // for it
    Cut,      // the text ends inside what could be a character
  };
  Kind kind = Kind::Valid;
  size_t bytes = 1;
  char32_t code = 0;  // of a valid one
};

// `at` must be inside the text.
Utf8Char utf8_char(std::string_view text, size_t at);

bool is_valid_utf8(std::string_view text);
// Every invalid part becomes U+FFFD, one each as the Unicode standard recommends (3.9,
// "substitution of maximal subparts") and as Rust, Python and the browsers do.
std::string replace_invalid(std::string_view text);
void append_utf8(std::string& text, char32_t code);
// Of valid UTF-8.
size_t count_characters(std::string_view text);

// The property White_Space.
bool is_white_space(char32_t code);
// What \w means to a Unicode regular expression: letters, marks, decimal digits, connectors,
// joiners.
bool is_word(char32_t code);

inline constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

}  // namespace moiety::text
