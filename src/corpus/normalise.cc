#include "corpus/normalise.h"

#include <algorithm>

#include "text/normalize.h"
#include "text/utf8.h"

namespace moiety::corpus {
namespace {

// Two, not one: that is how Python parts its functions.
constexpr int kBlankLines = 2;

bool is_plain(char c) { return (c >= ' ' && c < '\x7f') || c == '\n' || c == '\t'; }

bool is_dropped(char32_t code) {
  const bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
  return control || code == 0xfeff;  // a byte order mark
}

// Invalid bytes become U+FFFD, \r\n and \r become \n, controls go.
std::string clean(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    while (at < text.size() && is_plain(text[at])) ++at;
    out += text.substr(begin, at - begin);
    if (at == text.size()) break;

    if (text[at] == '\r') {
      if (at + 1 == text.size() || text[at + 1] != '\n') out += '\n';
      ++at;
      continue;
    }
    const text::Utf8Char next = text::utf8_char(text, at);
    if (next.kind != text::Utf8Char::Kind::Valid) {
      out += text::kReplacement;
    } else if (!is_dropped(next.code)) {
      out += text.substr(at, next.bytes);
    }
    at += next.bytes;
  }
  return out;
}

std::string tidy_lines(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 1);
  int blank = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    line = line.substr(0, line.find_last_not_of(" \t") + 1);
    at = end + 1;
    if (line.empty()) {
      ++blank;
      continue;
    }
    if (!out.empty()) out.append(static_cast<size_t>(std::min(blank, kBlankLines)), '\n');
    blank = 0;
    out += line;
    out += '\n';
  }
  return out;
}

}  // namespace

std::string normalise(std::string_view text) {
  std::string cleaned = clean(text);
  if (text::may_need_normalizing(cleaned, spec::NormalForm::Nfc)) {
    cleaned = text::normalize(cleaned, spec::NormalForm::Nfc);
  }
  return tidy_lines(cleaned);
}

}  // namespace moiety::corpus
