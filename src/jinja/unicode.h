// Characters of UTF-8 text as Python's str sees them: counted, cut, classified, in upper and lower case. A byte that is no
// UTF-8 is a character by itself.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moiety::jinja {

struct Char {
  char32_t code;
  size_t bytes;
};
Char char_at(std::string_view text, size_t at);
void append_char(std::string& text, char32_t code);

// The byte where character number `chars` begins; text.size() past the end.
size_t byte_of(std::string_view text, size_t chars, bool is_ascii);
size_t count_chars(std::string_view text);

bool is_space(char32_t code);
bool is_alpha(char32_t code);
bool is_digit(char32_t code);    // what str.isdigit calls one
bool is_decimal(char32_t code);  // what int() reads
bool is_upper(char32_t code);
bool is_lower(char32_t code);
bool is_title(char32_t code);
bool is_printable(char32_t code);  // repr() shows it as it is

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
void append_upper(std::string& out, char32_t code);
void append_lower(std::string& out, char32_t code);

// Without what `drop` says of the ends.
std::string_view strip_space(std::string_view text, bool left = true, bool right = true);
std::string_view strip_chars(std::string_view text, std::string_view drop, bool left, bool right);

// Where `part` begins in text at or after `from`, in linear time for any input; npos.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
// The last one that begins before `until`.
size_t rfind_text(std::string_view text, std::string_view part);

}  // namespace moiety::jinja
