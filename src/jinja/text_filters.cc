// Filters over text. A value that is no text is made one first.
#include <fmt/core.h>

#include "jinja/operators.h"
#include "jinja/tables.h"
#include "jinja/text_tools.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

bool is_markup(const Call& c) { return c.self.is_string() && c.self.string->markup; }
Value text_like(const Call& c, std::string text) { return c.run.text(std::move(text), is_markup(c)); }

Value upper(const Call& c) { return text_like(c, to_upper(c.self_text())); }
Value lower(const Call& c) { return text_like(c, to_lower(c.self_text())); }
Value capitalize(const Call& c) { return text_like(c, capitalized(c.self_text())); }

Value title(const Call& c) {
  const std::string text = c.self_text();
  std::string out;
  bool begins = true;
  for (size_t at = 0; at < text.size();) {
    const Char next = char_at(text, at);
    at += next.bytes;
    begins ? append_upper(out, next.code) : append_lower(out, next.code);
    begins = is_space(next.code) || (next.code < 0x80 && std::string_view("-({[<").find(static_cast<char>(next.code)) != std::string_view::npos);
  }
  return text_like(c, std::move(out));
}

Value trim(const Call& c) {
  const std::string text = c.self_text();
  const bool by_chars = c.has(0) && !c.at(0).is(Type::None);
  return text_like(c, std::string(by_chars ? strip_chars(text, c.string(0), true, true) : strip_space(text)));
}

Value replace(const Call& c) {
  const int64_t count = c.has(2) && !c.at(2).is(Type::None) ? c.integer(2, -1) : -1;
  return text_like(c, replaced(c.run, c.self_text(), c.text(0, ""), c.text(1, ""), count));
}

// Unlike other filters of text these two want some.
void require_text(const Call& c, const char* filter) {
  if (c.self.is_undefined()) c.run.fault(why_undefined(c.self));
  if (!c.self.is_string()) c.run.fault(fmt::format("{}: expected a str, found '{}'", filter, type_name(c.self)));
}

Value indent(const Call& c) {
  require_text(c, "indent");
  std::string margin;
  if (c.has(0) && c.at(0).is_string()) {
    margin = c.at(0).text();
  } else {
    const int64_t width = std::max<int64_t>(0, c.integer(0, 4));
    c.run.budget.allocate(static_cast<size_t>(width));
    margin.assign(static_cast<size_t>(width), ' ');
  }
  const bool first = c.truth(1, false), blank = c.truth(2, false);
  const std::string text = c.self_text() + "\n";
  std::string out = first ? margin : "";
  bool is_first = true;
  for (const std::string_view line : lines_of(text, false)) {
    c.run.budget.allocate(margin.size() + line.size() + 1);
    if (!is_first) {
      out += '\n';
      if (blank || !line.empty()) out += margin;
    }
    is_first = false;
    out += line;
  }
  return text_like(c, std::move(out));
}

Value truncate(const Call& c) {
  if (c.self.is_undefined()) return c.self;
  require_text(c, "truncate");
  const std::string text = c.self_text(), end = c.text(2, "...");
  const int64_t length = c.integer(0, 255), leeway = c.has(3) && !c.at(3).is(Type::None) ? c.integer(3, 5) : 5;
  const int64_t chars = static_cast<int64_t>(count_chars(text)), end_chars = static_cast<int64_t>(count_chars(end));
  if (length < end_chars) c.run.fault(fmt::format("truncate: the length must be at least {}", end_chars));
  if (leeway < 0) c.run.fault("truncate: the leeway must not be negative");
  if (chars <= length || chars - length <= leeway) return text_like(c, text);
  std::string cut = text.substr(0, byte_of(text, static_cast<size_t>(length - end_chars), false));
  if (!c.truth(1, false)) cut = cut.substr(0, cut.rfind(' '));
  return text_like(c, cut + end);
}

Value word_count(const Call& c) {
  const std::string text = c.self_text();
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const Char next = char_at(text, at);
    at += next.bytes;
    const bool is_word = is_alpha(next.code) || is_digit(next.code) || next.code == '_';
    words += is_word && !inside;
    inside = is_word;
  }
  return Value::of_int(words);
}

Value center(const Call& c) { return text_like(c, centered(c.run, c.self_text(), c.integer(0, 80), " ")); }

void append_quoted(std::string& out, std::string_view text, bool is_query) {
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_.-~").find(c) != std::string_view::npos;
    if (plain || (c == '/' && !is_query)) {
      out += c;
    } else if (c == ' ' && is_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
}

Value url_encode(const Call& c) {
  std::string out;
  const auto add_pair = [&](const Value& key, const Value& value) {
    if (!out.empty()) out += '&';
    append_quoted(out, c.run.str(key), true);
    out += '=';
    append_quoted(out, c.run.str(value), true);
  };
  if (c.self.is(Type::Dict)) {
    for (const auto& [key, value] : c.self.dict->entries()) add_pair(key, value);
  } else if (c.self.is(Type::List)) {
    for (const Value& item : c.run.items(c.self)) {
      const auto pair = c.run.items(item);
      if (pair.size() != 2) c.run.fault("urlencode: expected pairs");
      add_pair(pair[0], pair[1]);
    }
  } else {
    append_quoted(out, c.self_text(), false);
  }
  return c.run.text(std::move(out));
}

constexpr Builtin kFilters[] = {
    {"capitalize", capitalize},
    {"center", center, "width"},
    {"indent", indent, "width first blank"},
    {"lower", lower},
    {"replace", replace, "old new count", 2},
    {"title", title},
    {"trim", trim, "chars"},
    {"truncate", truncate, "length killwords end leeway"},
    {"upper", upper},
    {"urlencode", url_encode},
    {"wordcount", word_count},
};

}  // namespace

std::span<const Builtin> text_filters() { return kFilters; }

}  // namespace moiety::jinja
