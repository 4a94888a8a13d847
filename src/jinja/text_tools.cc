#include "jinja/text_tools.h"

#include "jinja/unicode.h"

namespace moiety::jinja {

std::string capitalized(std::string_view text) {
  if (text.empty()) return {};
  std::string out;
  const Char first = char_at(text, 0);
  append_upper(out, first.code);
  return out + to_lower(text.substr(first.bytes));
}

std::string replaced(Run& run, std::string_view text, std::string_view old, std::string_view with, int64_t count) {
  run.budget.scan(text.size());
  std::string out;
  size_t at = 0;
  if (old.empty()) {  // between all characters, and at both ends
    for (; count != 0; --count) {
      run.budget.allocate(with.size() + 1);
      out += with;
      if (at == text.size()) return out;
      const size_t bytes = char_at(text, at).bytes;
      out += text.substr(at, bytes);
      at += bytes;
    }
    return out += text.substr(at);
  }
  for (; count != 0; --count) {
    const size_t found = find_text(text, old, at);
    if (found == text.npos) break;
    run.budget.allocate(found - at + with.size());
    out.append(text, at, found - at);
    out += with;
    at = found + old.size();
  }
  return out += text.substr(at);
}

std::vector<std::string_view> lines_of(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    size_t end = at + c.bytes;
    const bool is_end = (c.code >= 10 && c.code <= 13) || (c.code >= 0x1c && c.code <= 0x1e) || c.code == 0x85 ||
                        c.code == 0x2028 || c.code == 0x2029;
    if (is_end) {
      if (c.code == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.push_back(text.substr(begin, (keep_ends ? end : at) - begin));
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string repeated(Run& run, std::string_view fill, int64_t count) {
  if (count <= 0) return {};
  size_t bytes = 0;
  if (__builtin_mul_overflow(fill.size(), static_cast<size_t>(count), &bytes)) bytes = SIZE_MAX;
  run.budget.allocate(bytes);
  std::string out;
  out.reserve(bytes);
  for (int64_t i = 0; i < count; ++i) out += fill;
  return out;
}

std::string centered(Run& run, std::string_view text, int64_t width, std::string_view fill) {
  const int64_t chars = static_cast<int64_t>(count_chars(text));
  if (width <= chars) return std::string(text);
  // Python puts the odd one to the left if the width is odd.
  const int64_t missing = width - chars, left = missing / 2 + (missing & width & 1);
  return repeated(run, fill, left) + std::string(text) + repeated(run, fill, missing - left);
}

}  // namespace moiety::jinja
