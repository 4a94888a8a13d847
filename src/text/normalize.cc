#include "text/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "text/utf8.h"

namespace moiety::text {
namespace {

using Code = utf8proc_int32_t;

// Below this first byte no character changes, and none combines with the one before it: U+0300 for
// NFC, else U+0080.
uint8_t first_risky_byte(spec::NormalForm form) {
  return form == spec::NormalForm::Nfc ? 0xcc : 0x80;
}

size_t char_start_before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80);
  return at;
}

int decomposition_options(spec::NormalForm form) {
  const bool compatibility = form == spec::NormalForm::Nfkc || form == spec::NormalForm::Nfkd;
  return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
}

bool composes(spec::NormalForm form) {
  return form == spec::NormalForm::Nfc || form == spec::NormalForm::Nfkc;
}

int combining_class(Code code) { return utf8proc_get_property(code)->combining_class; }

std::vector<Code> decompose(std::string_view text, spec::NormalForm form) {
  const auto options = static_cast<utf8proc_option_t>(decomposition_options(form));
  std::vector<Code> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = utf8_char(text, at);
    Code parts[32];  // the longest decomposition has 18
    int last_boundclass = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<Code>(next.code), parts, 32, options, &last_boundclass);
    if (count < 0 || count > 32) {
      codes.push_back(static_cast<Code>(next.code));  // unassigned: stays as it is
    } else {
      codes.insert(codes.end(), parts, parts + count);
    }
    at += next.bytes;
  }
  return codes;
}

// Canonical ordering: marks between two starters by combining class. utf8proc's own sort is
// quadratic.
void order_marks(std::vector<Code>& codes) {
  for (auto begin = codes.begin(); begin != codes.end();) {
    if (combining_class(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, codes.end(), [](Code c) { return combining_class(c) == 0; });
    std::stable_sort(begin, end,
                     [](Code a, Code b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

void append_normalized(std::string& out, std::string_view text, spec::NormalForm form) {
  std::vector<Code> codes = decompose(text, form);
  order_marks(codes);
  if (composes(form)) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const auto count = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), options);
    codes.resize(static_cast<size_t>(count));
  }
  for (const Code code : codes) append_utf8(out, static_cast<char32_t>(code));
}

}  // namespace

bool may_need_normalizing(std::string_view text, spec::NormalForm form) {
  const uint8_t risky = first_risky_byte(form);
  return std::any_of(text.begin(), text.end(),
                     [&](char c) { return static_cast<uint8_t>(c) >= risky; });
}

std::string normalize(std::string_view text, spec::NormalForm form) {
  // Stretches of safe characters are copied; a risky stretch takes the character before it along,
  // since its first mark may combine with it.
  const uint8_t risky = first_risky_byte(form);
  const auto is_risky = [&](size_t at) { return static_cast<uint8_t>(text[at]) >= risky; };
  const auto is_safe_start = [&](size_t at) {
    return !is_risky(at) && (static_cast<uint8_t>(text[at]) & 0xc0) != 0x80;
  };
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    while (begin < text.size() && !is_risky(begin)) ++begin;
    size_t end = begin;
    while (end < text.size() && !is_safe_start(end)) ++end;
    if (begin > at && begin < text.size()) begin = char_start_before(text, begin);
    out += text.substr(at, begin - at);
    if (begin < end) append_normalized(out, text.substr(begin, end - begin), form);
    at = end;
  }
  return out;
}

}  // namespace moiety::text
