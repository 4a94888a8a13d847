// Methods of strings that look for a part: find, count, replace, split and their kind.
#include <fmt/core.h>

#include <algorithm>

#include "jinja/tables.h"
#include "jinja/text_tools.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

// self[start:stop] of a search, as bytes; nothing if start lies behind the end.
struct Window {
  size_t begin, end;
};

std::optional<Window> window_of(const Call& c, size_t first) {
  const String& self = *c.self.string;
  const int64_t chars = static_cast<int64_t>(self.chars);
  const auto bound = [&](size_t i, int64_t otherwise) {
    if (!c.has(i) || c.at(i).is(Type::None)) return otherwise;
    const int64_t at = c.integer(i, 0);
    return at < 0 ? (at < -chars ? 0 : at + chars) : at;
  };
  const int64_t start = bound(first, 0), stop = std::min(bound(first + 1, chars), chars);
  if (start > chars || start > stop) return std::nullopt;
  c.run.budget.scan(self.text.size());
  return Window{byte_of(self.text, static_cast<size_t>(start), self.is_ascii()),
                byte_of(self.text, static_cast<size_t>(stop), self.is_ascii())};
}

// Where the part begins, in characters; -1.
int64_t search(const Call& c, bool from_the_end) {
  const auto window = window_of(c, 1);
  if (!window) return -1;
  const std::string_view text = c.self.text().substr(0, window->end), within = text.substr(window->begin);
  const size_t found = from_the_end ? rfind_text(within, c.string(0)) : find_text(within, c.string(0));
  if (found == within.npos) return -1;
  return static_cast<int64_t>(count_chars(text.substr(0, window->begin + found)));
}

Value find(const Call& c) { return Value::of_int(search(c, false)); }
Value find_last(const Call& c) { return Value::of_int(search(c, true)); }

Value must_find(const Call& c, bool from_the_end) {
  const int64_t found = search(c, from_the_end);
  if (found < 0) c.run.fault("substring not found");
  return Value::of_int(found);
}
Value index(const Call& c) { return must_find(c, false); }
Value last_index(const Call& c) { return must_find(c, true); }

Value count(const Call& c) {
  const auto window = window_of(c, 1);
  if (!window) return Value::of_int(0);
  const std::string_view text = c.self.text().substr(window->begin, window->end - window->begin), part = c.string(0);
  if (part.empty()) return Value::of_int(static_cast<int64_t>(count_chars(text)) + 1);
  int64_t found = 0;
  for (size_t at = find_text(text, part); at != text.npos; at = find_text(text, part, at + part.size())) ++found;
  return Value::of_int(found);
}

// Whether an end of the text is the argument, or one of a tuple of them.
Value has_end(const Call& c, bool at_start) {
  const auto window = window_of(c, 1);
  if (!window) return Value::of_bool(false);
  const std::string_view text = c.self.text().substr(window->begin, window->end - window->begin);
  const auto fits = [&](std::string_view part) { return at_start ? text.starts_with(part) : text.ends_with(part); };
  if (!is_list(c.at(0), List::Kind::Tuple)) return Value::of_bool(fits(c.string(0)));
  for (const Value& part : c.at(0).list->items) {
    if (part.is_string() && fits(part.text())) return Value::of_bool(true);
  }
  return Value::of_bool(false);
}
Value starts_with(const Call& c) { return has_end(c, true); }
Value ends_with(const Call& c) { return has_end(c, false); }

Value replace(const Call& c) {
  return c.run.text(replaced(c.run, c.self.text(), c.string(0), c.string(1), c.integer(2, -1)), c.self.string->markup);
}

using Parts = std::vector<std::string_view>;

Parts split_at(std::string_view text, std::string_view separator, int64_t most) {
  Parts parts;
  size_t at = 0;
  for (; most != 0; --most) {
    const size_t found = find_text(text, separator, at);
    if (found == text.npos) break;
    parts.push_back(text.substr(at, found - at));
    at = found + separator.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

// From the right: the occurrences that are cut at are counted from the end.
Parts split_at_last(std::string_view text, std::string_view separator, int64_t most) {
  const std::string back(text.rbegin(), text.rend()), separator_back(separator.rbegin(), separator.rend());
  Parts parts;
  for (const std::string_view part : split_at(back, separator_back, most)) {
    const size_t begin = text.size() - static_cast<size_t>(part.data() - back.data()) - part.size();
    parts.push_back(text.substr(begin, part.size()));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Parts split_words(std::string_view text, int64_t most) {
  Parts parts;
  text = strip_space(text, true, false);
  while (!text.empty()) {
    if (most-- == 0) {
      parts.push_back(text);
      return parts;
    }
    size_t at = 0;
    while (at < text.size() && !is_space(char_at(text, at).code)) at += char_at(text, at).bytes;
    parts.push_back(text.substr(0, at));
    text = strip_space(text.substr(at), true, false);
  }
  return parts;
}

Parts split_last_words(std::string_view text, int64_t most) {
  Parts words = split_words(text, -1);
  if (most < 0 || static_cast<int64_t>(words.size()) <= most) return words;
  const size_t first = words.size() - static_cast<size_t>(most);  // of the words that are cut off
  const std::string_view head_end = words[first - 1];
  Parts parts = {text.substr(0, static_cast<size_t>(head_end.data() + head_end.size() - text.data()))};
  parts.insert(parts.end(), words.begin() + static_cast<std::ptrdiff_t>(first), words.end());
  return parts;
}

Value list_of(const Call& c, const Parts& parts, List::Kind kind = List::Kind::List) {
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(c.run.text(std::string(part), c.self.string->markup));
  return c.run.heap.list(std::move(items), kind);
}

Value split_with(const Call& c, bool from_the_end) {
  const int64_t most = c.integer(1, -1);
  const std::string_view text = c.self.text();
  c.run.budget.scan(text.size());
  if (!c.has(0) || c.at(0).is(Type::None)) {
    return list_of(c, from_the_end ? split_last_words(text, most) : split_words(text, most));
  }
  if (c.string(0).empty()) c.run.fault("empty separator");
  return list_of(c, from_the_end ? split_at_last(text, c.string(0), most) : split_at(text, c.string(0), most));
}
Value split(const Call& c) { return split_with(c, false); }
Value split_last(const Call& c) { return split_with(c, true); }

Value split_lines(const Call& c) { return list_of(c, lines_of(c.self.text(), c.truth(0, false))); }

Value partition(const Call& c) {
  if (c.string(0).empty()) c.run.fault("empty separator");
  const Parts parts = split_at(c.self.text(), c.string(0), 1);
  if (parts.size() == 1) return list_of(c, {parts[0], "", ""}, List::Kind::Tuple);
  return list_of(c, {parts[0], c.string(0), parts[1]}, List::Kind::Tuple);
}

Value partition_last(const Call& c) {
  if (c.string(0).empty()) c.run.fault("empty separator");
  const Parts parts = split_at_last(c.self.text(), c.string(0), 1);
  if (parts.size() == 1) return list_of(c, {"", "", parts[0]}, List::Kind::Tuple);
  return list_of(c, {parts[0], c.string(0), parts[1]}, List::Kind::Tuple);
}

constexpr Builtin kMethods[] = {
    {"count", count, "sub start end", 1},
    {"endswith", ends_with, "suffix start end", 1},
    {"find", find, "sub start end", 1},
    {"index", index, "sub start end", 1},
    {"partition", partition, "sep", 1},
    {"replace", replace, "old new count", 2},
    {"rfind", find_last, "sub start end", 1},
    {"rindex", last_index, "sub start end", 1},
    {"rpartition", partition_last, "sep", 1},
    {"rsplit", split_last, "sep maxsplit"},
    {"split", split, "sep maxsplit"},
    {"splitlines", split_lines, "keepends"},
    {"startswith", starts_with, "prefix start end", 1},
};

}  // namespace

std::span<const Builtin> string_search_methods() { return kMethods; }

}  // namespace moiety::jinja
