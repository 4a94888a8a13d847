#include "jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace moiety::jinja {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

utf8proc_category_t category(char32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

// A byte that is no UTF-8, as a code that nothing else has: written back as it was.
constexpr char32_t kRawByte = 0x110000;

}  // namespace

Char char_at(std::string_view text, size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {byte, 1};
  utf8proc_int32_t code = -1;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                      static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size() - at, 4)), &code);
  if (bytes <= 0) return {kRawByte + byte, 1};
  return {static_cast<char32_t>(code), static_cast<size_t>(bytes)};
}

void append_char(std::string& text, char32_t code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code >= kRawByte) {
    text += static_cast<char>(code - kRawByte);
  } else {
    utf8proc_uint8_t bytes[4];
    const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
    text.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(count));
  }
}

size_t byte_of(std::string_view text, size_t chars, bool is_ascii) {
  if (is_ascii) return std::min(chars, text.size());
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (is_continuation(text[at])) continue;
    if (chars-- == 0) break;
  }
  return at;
}

size_t count_chars(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

bool is_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x1f);
  return code == 0x85 || category(code) == UTF8PROC_CATEGORY_ZS || code == 0x2028 || code == 0x2029;
}

bool is_alpha(char32_t code) {
  if (code < 0x80) return (code | 32) >= 'a' && (code | 32) <= 'z';
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t code) {
  return code < 0x80 ? code >= '0' && code <= '9' : category(code) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t code) {
  // Beside decimals, superscripts and circled digits.
  return is_decimal(code) || code == 0xb2 || code == 0xb3 || code == 0xb9 || code == 0x2070 ||
         (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089) || (code >= 0x2460 && code <= 0x2468);
}

bool is_upper(char32_t code) {
  return code < 0x80 ? code >= 'A' && code <= 'Z' : category(code) == UTF8PROC_CATEGORY_LU;
}

bool is_lower(char32_t code) {
  return code < 0x80 ? code >= 'a' && code <= 'z' : category(code) == UTF8PROC_CATEGORY_LL;
}

bool is_title(char32_t code) { return code >= 0x80 && category(code) == UTF8PROC_CATEGORY_LT; }

bool is_printable(char32_t code) {
  if (code < 0x80) return code >= 32 && code < 127;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void append_upper(std::string& out, char32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code >= 'a' && code <= 'z' ? code - 32 : code);
  } else if (code == 0xdf) {
    out += "SS";
  } else if (code >= kRawByte) {
    append_char(out, code);
  } else {
    append_char(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))));
  }
}

void append_lower(std::string& out, char32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code);
  } else if (code == 0x130) {
    out += "i\xcc\x87";  // I with a dot becomes i and a dot
  } else if (code >= kRawByte) {
    append_char(out, code);
  } else {
    append_char(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  }
}

std::string to_upper(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    append_upper(out, c.code);
    at += c.bytes;
  }
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  bool after_letter = false;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    at += c.bytes;
    // A sigma at the end of a word has a form of its own.
    if (c.code == 0x3a3 && after_letter && (at == text.size() || !is_alpha(char_at(text, at).code))) {
      append_char(out, 0x3c2);
    } else {
      append_lower(out, c.code);
    }
    after_letter = is_alpha(c.code);
  }
  return out;
}

namespace {

template <class Drop>
std::string_view strip(std::string_view text, bool left, bool right, Drop drop) {
  if (left) {
    size_t at = 0;
    while (at < text.size()) {
      const Char c = char_at(text, at);
      if (!drop(c.code)) break;
      at += c.bytes;
    }
    text.remove_prefix(at);
  }
  while (right && !text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && is_continuation(text[at]) && text.size() - at < 4) --at;
    Char c = char_at(text, at);
    if (at + c.bytes != text.size()) c = char_at(text, at = text.size() - 1);
    if (!drop(c.code)) break;
    text = text.substr(0, at);
  }
  return text;
}

}  // namespace

std::string_view strip_space(std::string_view text, bool left, bool right) {
  return strip(text, left, right, is_space);
}

std::string_view strip_chars(std::string_view text, std::string_view drop, bool left, bool right) {
  std::vector<char32_t> codes;
  for (size_t at = 0; at < drop.size();) {
    const Char c = char_at(drop, at);
    codes.push_back(c.code);
    at += c.bytes;
  }
  std::sort(codes.begin(), codes.end());
  return strip(text, left, right, [&](char32_t c) { return std::binary_search(codes.begin(), codes.end(), c); });
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return text.npos;
  if (part.empty()) return from;
  // memmem is linear (two-way string matching); std::string_view::find is not.
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t rfind_text(std::string_view text, std::string_view part) {
  if (part.size() > text.size()) return text.npos;
  const std::string back(text.rbegin(), text.rend()), part_back(part.rbegin(), part.rend());
  const size_t found = find_text(back, part_back);
  return found == back.npos ? text.npos : text.size() - found - part.size();
}

}  // namespace moiety::jinja
