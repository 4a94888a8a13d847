// Methods of strings that make other strings or say what they are made of. string_search.cc has those that look for parts.
#include <fmt/core.h>

#include "jinja/operators.h"
#include "jinja/tables.h"
#include "jinja/text_tools.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

Value text_like(const Call& c, std::string text) { return c.run.text(std::move(text), c.self.string->markup); }

Value upper(const Call& c) { return text_like(c, to_upper(c.self.text())); }
Value lower(const Call& c) { return text_like(c, to_lower(c.self.text())); }
Value capitalize(const Call& c) { return text_like(c, capitalized(c.self.text())); }

Value title(const Call& c) {
  std::string out;
  bool after_letter = false;
  for (size_t at = 0; at < c.self.text().size();) {
    const Char next = char_at(c.self.text(), at);
    at += next.bytes;
    after_letter ? append_lower(out, next.code) : append_upper(out, next.code);
    after_letter = is_alpha(next.code);
  }
  return text_like(c, std::move(out));
}

Value swap_case(const Call& c) {
  std::string out;
  for (size_t at = 0; at < c.self.text().size();) {
    const Char next = char_at(c.self.text(), at);
    at += next.bytes;
    is_upper(next.code) ? append_lower(out, next.code) : append_upper(out, next.code);
  }
  return text_like(c, std::move(out));
}

Value strip_ends(const Call& c, bool left, bool right) {
  const bool by_chars = c.has(0) && !c.at(0).is(Type::None);
  return text_like(c, std::string(by_chars ? strip_chars(c.self.text(), c.string(0), left, right)
                                           : strip_space(c.self.text(), left, right)));
}
Value strip(const Call& c) { return strip_ends(c, true, true); }
Value left_strip(const Call& c) { return strip_ends(c, true, false); }
Value right_strip(const Call& c) { return strip_ends(c, false, true); }

int64_t missing(const Call& c) { return c.integer(0, 0) - static_cast<int64_t>(c.self.string->chars); }
std::string_view fill(const Call& c) { return c.has(1) ? c.string(1) : " "; }

Value left_justify(const Call& c) { return text_like(c, std::string(c.self.text()) + repeated(c.run, fill(c), missing(c))); }
Value right_justify(const Call& c) { return text_like(c, repeated(c.run, fill(c), missing(c)) + std::string(c.self.text())); }
Value center(const Call& c) { return text_like(c, centered(c.run, c.self.text(), c.integer(0, 0), fill(c))); }

Value zero_fill(const Call& c) {
  const std::string_view text = c.self.text();
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return text_like(c, std::string(text.substr(0, sign)) + repeated(c.run, "0", missing(c)) + std::string(text.substr(sign)));
}

Value expand_tabs(const Call& c) {
  const int64_t size = c.integer(0, 8);
  std::string out;
  int64_t column = 0;
  for (const char next : c.self.text()) {
    if (next == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      out += repeated(c.run, " ", spaces);
      column += spaces;
    } else {
      out += next;
      column = next == '\n' || next == '\r' ? 0 : column + ((static_cast<unsigned char>(next) & 0xc0) != 0x80);
    }
  }
  return text_like(c, std::move(out));
}

Value remove_prefix(const Call& c) {
  std::string_view text = c.self.text();
  if (text.starts_with(c.string(0))) text.remove_prefix(c.string(0).size());
  return text_like(c, std::string(text));
}

Value remove_suffix(const Call& c) {
  std::string_view text = c.self.text();
  if (text.ends_with(c.string(0))) text.remove_suffix(c.string(0).size());
  return text_like(c, std::string(text));
}

Value join(const Call& c) {
  std::string out;
  bool is_first = true;
  for (const Value& item : c.run.items(c.at(0))) {
    if (!item.is_string()) c.run.fault(fmt::format("join: expected str instances, found '{}'", type_name(item)));
    c.run.budget.allocate(c.self.text().size() + item.text().size());
    if (!is_first) out += c.self.text();
    is_first = false;
    out += item.text();
  }
  return text_like(c, std::move(out));
}

Value format(const Call& c) { return text_like(c, format_braces(c.run, c.self.text(), c.all)); }

// All characters are so, and there is one.
template <class Is>
Value all(const Call& c, Is is) {
  const std::string_view text = c.self.text();
  for (size_t at = 0; at < text.size();) {
    const Char next = char_at(text, at);
    if (!is(next.code)) return Value::of_bool(false);
    at += next.bytes;
  }
  return Value::of_bool(!text.empty());
}

Value is_all_alpha(const Call& c) { return all(c, is_alpha); }
Value is_all_digits(const Call& c) { return all(c, is_digit); }
Value is_all_decimal(const Call& c) { return all(c, is_decimal); }
Value is_all_space(const Call& c) { return all(c, is_space); }
Value is_all_alphanumeric(const Call& c) {
  return all(c, [](char32_t code) { return is_alpha(code) || is_digit(code); });
}
Value is_all_ascii(const Call& c) { return Value::of_bool(c.self.string->is_ascii()); }
Value is_all_printable(const Call& c) { return Value::of_bool(c.self.text().empty() || all(c, is_printable).boolean); }

Value is_identifier(const Call& c) {
  const std::string_view text = c.self.text();
  const bool starts_well = !text.empty() && !is_decimal(char_at(text, 0).code);
  return Value::of_bool(starts_well && all(c, [](char32_t code) { return is_alpha(code) || is_decimal(code) || code == '_'; }).boolean);
}

// Letters that have a case are all of one, and there is one.
Value one_case(const Call& c, bool (*wanted)(char32_t), bool (*unwanted)(char32_t)) {
  bool found = false;
  for (size_t at = 0; at < c.self.text().size();) {
    const Char next = char_at(c.self.text(), at);
    at += next.bytes;
    if (unwanted(next.code) || is_title(next.code)) return Value::of_bool(false);
    found |= wanted(next.code);
  }
  return Value::of_bool(found);
}
Value is_all_upper(const Call& c) { return one_case(c, is_upper, is_lower); }
Value is_all_lower(const Call& c) { return one_case(c, is_lower, is_upper); }

Value is_all_title(const Call& c) {
  bool found = false, after_cased = false;
  for (size_t at = 0; at < c.self.text().size();) {
    const Char next = char_at(c.self.text(), at);
    at += next.bytes;
    const bool high = is_upper(next.code) || is_title(next.code), low = is_lower(next.code);
    if ((high && after_cased) || (low && !after_cased)) return Value::of_bool(false);
    after_cased = high || low;
    found |= after_cased;
  }
  return Value::of_bool(found);
}

constexpr Builtin kMethods[] = {
    {"capitalize", capitalize},
    {"casefold", lower},
    {"center", center, "width fillchar", 1},
    {"expandtabs", expand_tabs, "tabsize"},
    {"format", format, "*"},
    {"isalnum", is_all_alphanumeric},
    {"isalpha", is_all_alpha},
    {"isascii", is_all_ascii},
    {"isdecimal", is_all_decimal},
    {"isdigit", is_all_digits},
    {"isidentifier", is_identifier},
    {"islower", is_all_lower},
    {"isnumeric", is_all_digits},
    {"isprintable", is_all_printable},
    {"isspace", is_all_space},
    {"istitle", is_all_title},
    {"isupper", is_all_upper},
    {"join", join, "iterable", 1},
    {"ljust", left_justify, "width fillchar", 1},
    {"lower", lower},
    {"lstrip", left_strip, "chars"},
    {"removeprefix", remove_prefix, "prefix", 1},
    {"removesuffix", remove_suffix, "suffix", 1},
    {"rjust", right_justify, "width fillchar", 1},
    {"rstrip", right_strip, "chars"},
    {"strip", strip, "chars"},
    {"swapcase", swap_case},
    {"title", title},
    {"upper", upper},
    {"zfill", zero_fill, "width", 1},
};

}  // namespace

std::span<const Builtin> string_methods() { return kMethods; }

}  // namespace moiety::jinja
