#include "grammar/json_text.h"

#include <fmt/format.h>

#include "text/utf8.h"

namespace moiety::grammar {
namespace {

constexpr uint32_t kMostIndent = 32, kMostDigits = 16;

struct ShortEscape {
  char32_t code;
  std::string_view text;
};
constexpr ShortEscape kShortEscapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
                                         {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};

// What may stand in a string as itself.
const CodeSet& plain_characters() {
  static const CodeSet set = CodeSet({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}}).complement();
  return set;
}

std::string escape_of(char32_t code) {
  for (const ShortEscape& escape : kShortEscapes) {
    if (escape.code == code) return std::string(escape.text);
  }
  return fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
}

CodeSet digits(char32_t first, char32_t last) {
  return CodeSet(first, last);
}

const CodeSet& hex_digits() {
  static const CodeSet set({{'0', '9'}, {'a', 'f'}, {'A', 'F'}});
  return set;
}

// The strings that string_but() leaves out, by their characters.
struct NameTree {
  std::map<char32_t, NameTree> next;
  bool is_name = false;
};

// Any rest of a string that is not in the tree below. As deep as the longest name: they are cut before.
Expr rest_but(JsonText& json, const NameTree& tree, Expr any_rest) {
  Grammar& grammar = json.grammar();
  std::vector<Expr> ways;
  std::vector<CodeRange> known;
  if (!tree.is_name) ways.push_back(grammar.text("\""));
  for (const auto& [code, below] : tree.next) {
    known.push_back({code, code});
    ways.push_back(grammar.sequence({json.character_of(CodeSet(code, code)), rest_but(json, below, any_rest)}));
  }
  ways.push_back(grammar.sequence({json.character_of(CodeSet(std::move(known)).complement()), any_rest}));
  return grammar.choice(std::move(ways));
}

constexpr size_t kLongestName = 200;

}  // namespace

// Defined before its body is made, for bodies that speak of it.
template <class Make>
Expr JsonText::once(Part part, const char* name, Make make) {
  const auto [entry, is_new] = rules_.try_emplace(part);
  const RuleId rule = is_new ? grammar_.add_rule(name) : entry->second;
  if (is_new) {
    entry->second = rule;
    const Expr body = make();
    grammar_.define(rule, body);
  }
  return grammar_.call(rule);
}

Expr JsonText::space() {
  return once(Part::Space, "space", [&] {
    const Expr indent = grammar_.repeat(grammar_.text(" "), 0, kMostIndent);
    return grammar_.choice({grammar_.empty(), grammar_.text(" "), grammar_.sequence({grammar_.text("\n"), indent})});
  });
}

Expr JsonText::comma() {
  return grammar_.sequence({grammar_.text(","), space()});
}

Expr JsonText::member(Expr key, Expr value) {
  return grammar_.sequence({key, grammar_.text(":"), grammar_.optional(grammar_.text(" ")), value});
}

Expr JsonText::list(std::string_view open, Expr item, std::string_view close, uint32_t min, uint32_t max) {
  if (min > max) return grammar_.nothing();
  std::vector<Expr> parts = {grammar_.text(open), space()};
  if (max > 0) {
    const Expr next = grammar_.sequence({comma(), item});
    const Expr others = grammar_.repeat(next, min == 0 ? 0 : min - 1, max == kUnlimited ? kUnlimited : max - 1);
    const Expr items = grammar_.sequence({item, others, space()});
    parts.push_back(min == 0 ? grammar_.optional(items) : items);
  }
  parts.push_back(grammar_.text(close));
  return grammar_.sequence(std::move(parts));
}

Expr JsonText::value() {
  return once(Part::Value, "value",
              [&] { return grammar_.choice({object(), array(), string(), number(), boolean(), null()}); });
}

Expr JsonText::object() {
  return once(Part::Object, "object", [&] { return list("{", member(string(), value()), "}"); });
}

Expr JsonText::array() {
  return once(Part::Array, "array", [&] { return list("[", value(), "]"); });
}

// \uD800 … \uDFFF come in pairs only: half of one is no character, and readers refuse it.
Expr JsonText::character() {
  return once(Part::Character, "character", [&] {
    const Expr hex = grammar_.set(hex_digits());
    const auto d = [&](char32_t lower, char32_t upper) { return grammar_.set(CodeSet({{lower, lower}, {upper, upper}})); };
    const Expr below = grammar_.set(CodeSet({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}}));
    const Expr basic = grammar_.choice({grammar_.sequence({below, hex, hex, hex}),
                                        grammar_.sequence({d('d', 'D'), grammar_.set(digits('0', '7')), hex, hex})});
    const Expr high = grammar_.sequence({d('d', 'D'), grammar_.set(CodeSet({{'8', '9'}, {'a', 'b'}, {'A', 'B'}})), hex, hex});
    const Expr low = grammar_.sequence({d('d', 'D'), grammar_.set(CodeSet({{'c', 'f'}, {'C', 'F'}})), hex, hex});
    const Expr pair = grammar_.sequence({high, grammar_.text("\\u"), low});
    const Expr by_number = grammar_.sequence({grammar_.text("u"), grammar_.choice({basic, pair})});
    const Expr by_letter = grammar_.set(CodeSet({{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'},
                                                 {'r', 'r'}, {'t', 't'}}));
    return grammar_.choice({grammar_.set(plain_characters()),
                            grammar_.sequence({grammar_.text("\\"), grammar_.choice({by_letter, by_number})})});
  });
}

Expr JsonText::character_of(const CodeSet& set) {
  const auto make = [&] {
    std::vector<Expr> ways;
    const CodeSet plain = set & plain_characters();
    if (!plain.empty()) ways.push_back(grammar_.set(plain));
    for (char32_t code = 0; code <= '\\'; ++code) {
      if (set.contains(code) && !plain_characters().contains(code)) ways.push_back(grammar_.text(escape_of(code)));
    }
    return grammar_.choice(std::move(ways));
  };
  return set == CodeSet::all() ? once(Part::OwnCharacter, "character", make) : make();
}

Expr JsonText::string(uint32_t min_length, uint32_t max_length) {
  const auto make = [&] {
    return grammar_.sequence({grammar_.text("\""), grammar_.repeat(character(), min_length, max_length), grammar_.text("\"")});
  };
  return min_length == 0 && max_length == kUnlimited ? once(Part::String, "string", make) : make();
}

Expr JsonText::string_of(std::string_view text) {
  std::string escaped = "\"";
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Char c = text::utf8_char(text, at);
    escaped += plain_characters().contains(c.code) ? std::string(text.substr(at, c.bytes)) : escape_of(c.code);
    at += c.bytes;
  }
  return grammar_.text(escaped + "\"");
}

Expr JsonText::string_but(std::span<const std::string_view> names) {
  NameTree tree;
  for (const std::string_view name : names) {
    NameTree* node = &tree;
    size_t depth = 0;
    for (size_t at = 0; at < name.size(); ++depth) {
      // All that begins as a very long name does is left out.
      if (depth == kLongestName) break;
      const text::Utf8Char c = text::utf8_char(name, at);
      node = &node->next[c.code];
      at += c.bytes;
    }
    node->is_name = true;
  }
  const Expr any_rest = grammar_.rule(
      "name", grammar_.sequence({grammar_.repeat(character_of(CodeSet::all()), 0), grammar_.text("\"")}));
  return grammar_.sequence({grammar_.text("\""), rest_but(*this, tree, any_rest)});
}

Expr JsonText::integer() {
  return once(Part::Integer, "integer", [&] {
    const Expr more = grammar_.repeat(grammar_.set(digits('0', '9')), 0, kMostDigits - 1);
    const Expr natural =
        grammar_.choice({grammar_.text("0"), grammar_.sequence({grammar_.set(digits('1', '9')), more})});
    return grammar_.sequence({grammar_.optional(grammar_.text("-")), natural});
  });
}

// Exponents have two digits at most: so every number is one that a double can hold.
Expr JsonText::number() {
  return once(Part::Number, "number", [&] {
    const Expr digit = grammar_.set(digits('0', '9'));
    const Expr fraction = grammar_.sequence({grammar_.text("."), grammar_.repeat(digit, 1, kMostDigits)});
    const Expr sign = grammar_.set(CodeSet({{'+', '+'}, {'-', '-'}}));
    const Expr exponent = grammar_.sequence(
        {grammar_.set(CodeSet({{'e', 'e'}, {'E', 'E'}})), grammar_.optional(sign), grammar_.repeat(digit, 1, 2)});
    return grammar_.sequence({integer(), grammar_.optional(fraction), grammar_.optional(exponent)});
  });
}

Expr JsonText::boolean() {
  return grammar_.choice({grammar_.text("true"), grammar_.text("false")});
}

Expr JsonText::null() {
  return grammar_.text("null");
}

}  // namespace moiety::grammar
