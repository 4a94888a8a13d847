#include "grammar/pattern.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/utf8.h"

namespace moiety::grammar {
namespace {

constexpr int kDeepestGroup = 64;
constexpr uint32_t kMostRepeats = 100'000;

uint32_t add_lengths(uint32_t a, uint32_t b) {
  return a == kUnlimited || b == kUnlimited ? kUnlimited : static_cast<uint32_t>(std::min<uint64_t>(uint64_t{a} + b, kUnlimited - 1));
}
uint32_t multiply_lengths(uint32_t a, uint32_t b) {
  if (a == 0 || b == 0) return 0;
  return a == kUnlimited || b == kUnlimited ? kUnlimited : static_cast<uint32_t>(std::min<uint64_t>(uint64_t{a} * b, kUnlimited - 1));
}

// A part of a pattern, how long what it matches is, and of what character it is a repetition, if it is one.
struct Part {
  Expr expr;
  uint32_t min = 0, max = 0;
  std::optional<Expr> repeated;
};

const CodeSet& digits() {
  static const CodeSet set('0', '9');
  return set;
}
const CodeSet& word_characters() {
  static const CodeSet set({{'0', '9'}, {'a', 'z'}, {'A', 'Z'}, {'_', '_'}});
  return set;
}
const CodeSet& spaces() {
  static const CodeSet set({{'\t', '\r'}, {' ', ' '}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                            {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}});
  return set;
}
const CodeSet& line_breaks() {
  static const CodeSet set({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
  return set;
}

class Parser {
 public:
  Parser(JsonText& json, std::string_view pattern, std::string_view where)
      : json_(json), grammar_(json.grammar()), pattern_(pattern), where_(where) {}

  Expr parse(const LengthLimits& limits) {
    std::vector<Part> ways;
    do {
      ways.push_back(parse_anchored());
    } while (take("|"));
    expect(at_ == pattern_.size(), "an unexpected ')'");
    const Expr quote = grammar_.text("\"");
    std::vector<Expr> kept;
    for (const Part& way : ways) kept.push_back(within(way, limits));
    return grammar_.sequence({quote, grammar_.choice(std::move(kept)), quote});
  }

 private:
  template <class... Args>
  void expect(bool ok, fmt::format_string<Args...> format, Args&&... args) const {
    if (!ok) fail(ErrorKind::Input, "{}: pattern at byte {}: {}", where_, at_, fmt::format(format, std::forward<Args>(args)...));
  }

  char peek() const { return at_ < pattern_.size() ? pattern_[at_] : '\0'; }
  bool take(std::string_view wanted) {
    if (!pattern_.substr(at_).starts_with(wanted)) return false;
    at_ += wanted.size();
    return true;
  }

  Expr within(const Part& part, const LengthLimits& limits) {
    if (part.min >= limits.min && part.max <= limits.max) return part.expr;
    require(part.repeated.has_value(), "{}: a pattern together with minLength or maxLength is not supported", where_);
    return grammar_.repeat(*part.repeated, std::max(part.min, limits.min), std::min(part.max, limits.max));
  }

  Part character(const CodeSet& set) {
    const Expr expr = json_.character_of(set);
    return {expr, 1, 1, expr};
  }

  // ^ and $ belong to one of the alternatives at the top.
  Part parse_anchored() {
    const Part any{grammar_.repeat(json_.character_of(CodeSet::all()), 0), 0, kUnlimited, {}};
    const bool from_start = take("^");
    std::vector<Part> parts = parse_parts(0);
    const bool to_end = take("$");
    expect(at_ == pattern_.size() || peek() == '|' || peek() == ')', "'$' before the end is not supported");
    if (!from_start) parts.insert(parts.begin(), any);
    if (!to_end) parts.push_back(any);
    return join(parts);
  }

  Part join(const std::vector<Part>& parts) {
    if (parts.size() == 1) return parts[0];
    Part all{{}, 0, 0, {}};
    std::vector<Expr> exprs;
    for (const Part& part : parts) {
      exprs.push_back(part.expr);
      all.min = add_lengths(all.min, part.min);
      all.max = add_lengths(all.max, part.max);
    }
    all.expr = grammar_.sequence(std::move(exprs));
    return all;
  }

  Part parse_alternatives(int depth) {
    std::vector<Part> ways;
    do {
      ways.push_back(join(parse_parts(depth)));
    } while (take("|"));
    if (ways.size() == 1) return ways[0];
    Part all{{}, kUnlimited, 0, {}};
    std::vector<Expr> exprs;
    for (const Part& way : ways) {
      exprs.push_back(way.expr);
      all.min = std::min(all.min, way.min);
      all.max = std::max(all.max, way.max);
    }
    all.expr = grammar_.choice(std::move(exprs));
    return all;
  }

  std::vector<Part> parse_parts(int depth) {
    std::vector<Part> parts;
    while (at_ < pattern_.size() && peek() != '|' && peek() != ')' && !(peek() == '$' && depth == 0)) {
      parts.push_back(parse_repetition(parse_atom(depth)));
    }
    return parts;
  }

  Part parse_atom(int depth) {
    const char c = peek();
    expect(c != '^' && c != '$', "'{}' inside a pattern is not supported", c);
    expect(c != '*' && c != '+' && c != '?', "'{}' repeats nothing", c);
    if (take(".")) return character(line_breaks().complement());
    if (c == '[') return character(parse_class());
    if (c == '(') return parse_group(depth);
    if (c == '\\') return character(parse_escape(false));
    return character(single(parse_plain()));
  }

  Part parse_group(int depth) {
    expect(depth < kDeepestGroup, "groups nested deeper than {}", kDeepestGroup);
    ++at_;
    if (take("?")) {
      const bool is_name = peek() == '<' && !pattern_.substr(at_).starts_with("<=") && !pattern_.substr(at_).starts_with("<!");
      expect(peek() == ':' || is_name, "look-ahead and look-behind are not supported");
      if (is_name) at_ = std::min(pattern_.find('>', at_), pattern_.size() - 1);
      ++at_;
    }
    const Part group = parse_alternatives(depth + 1);
    expect(take(")"), "a group is not closed");
    return group;
  }

  Part parse_repetition(const Part& item) {
    uint32_t min = 1, max = 1;
    if (take("*")) {
      min = 0, max = kUnlimited;
    } else if (take("+")) {
      max = kUnlimited;
    } else if (take("?")) {
      min = 0;
    } else if (peek() == '{' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] >= '0' && pattern_[at_ + 1] <= '9') {
      ++at_;
      min = max = parse_count();
      if (take(",")) max = peek() == '}' ? kUnlimited : parse_count();
      expect(take("}"), "expected '}}' after the counts of a repetition");
      expect(min <= max, "a repetition of at least {} and at most {}", min, max);
    } else {
      return item;
    }
    take("?");  // lazy
    expect(peek() != '*' && peek() != '+' && peek() != '?', "'{}' repeats nothing", peek());
    Part repeated{grammar_.repeat(item.expr, min, max), multiply_lengths(item.min, min), multiply_lengths(item.max, max), {}};
    if (item.repeated && item.min == 1 && item.max == 1) repeated.repeated = item.repeated;
    return repeated;
  }

  uint32_t parse_count() {
    uint64_t count = 0;
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') {
      count = count * 10 + static_cast<uint64_t>(pattern_[at_++] - '0');
      expect(count <= kMostRepeats, "a repetition of more than {}", kMostRepeats);
    }
    expect(at_ > begin, "expected a number in a repetition");
    return static_cast<uint32_t>(count);
  }

  char32_t parse_plain() {
    const text::Utf8Char c = text::utf8_char(pattern_, at_);
    expect(c.kind == text::Utf8Char::Kind::Valid, "not valid UTF-8");
    at_ += c.bytes;
    return c.code;
  }

  static CodeSet single(char32_t code) { return CodeSet(code, code); }

  CodeSet parse_class() {
    ++at_;
    const bool is_negated = take("^");
    std::vector<CodeRange> ranges;
    while (!take("]")) {
      expect(at_ < pattern_.size(), "a class is not closed");
      const CodeSet first = peek() == '\\' ? parse_escape(true) : single(parse_plain());
      const bool is_range = peek() == '-' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
      if (!is_range) {
        ranges.insert(ranges.end(), first.ranges().begin(), first.ranges().end());
        continue;
      }
      ++at_;
      const CodeSet last = peek() == '\\' ? parse_escape(true) : single(parse_plain());
      const auto is_single = [](const CodeSet& set) { return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last; };
      expect(is_single(first) && is_single(last), "a range in a class between what are no characters");
      expect(first.ranges()[0].first <= last.ranges()[0].first, "a range in a class goes backwards");
      ranges.push_back({first.ranges()[0].first, last.ranges()[0].first});
    }
    CodeSet set(std::move(ranges));
    return is_negated ? set.complement() : set;
  }

  CodeSet parse_escape(bool in_class) {
    ++at_;
    expect(at_ < pattern_.size(), "an escape is cut off");
    const char c = pattern_[at_++];
    switch (c) {
      case 'd': return digits();
      case 'D': return digits().complement();
      case 'w': return word_characters();
      case 'W': return word_characters().complement();
      case 's': return spaces();
      case 'S': return spaces().complement();
      case 'n': return single('\n');
      case 'r': return single('\r');
      case 't': return single('\t');
      case 'f': return single('\f');
      case 'v': return single('\v');
      case '0': return single('\0');
      case 'x': return single(parse_hex(2));
      case 'u': return single(parse_unicode_escape());
      default: break;
    }
    if (in_class && c == 'b') return single('\b');
    const bool is_plain = static_cast<uint8_t>(c) < 0x80 && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z');
    expect(is_plain, "the escape \\{} is not supported", is_plain || static_cast<uint8_t>(c) >= 0x80 ? '?' : c);
    return single(static_cast<char32_t>(c));
  }

  char32_t parse_unicode_escape() {
    if (!take("{")) {
      const char32_t high = parse_hex(4);
      if (high < 0xd800 || high > 0xdfff) return high;
      expect(high < 0xdc00 && take("\\u"), "half of a surrogate pair");
      const char32_t low = parse_hex(4);
      expect(low >= 0xdc00 && low <= 0xdfff, "half of a surrogate pair");
      return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    }
    const size_t close = pattern_.find('}', at_);
    expect(close != pattern_.npos && close > at_ && close - at_ <= 6, "expected \\u{{…}} with up to six hexadecimal digits");
    const char32_t code = parse_hex(static_cast<int>(close - at_));
    ++at_;
    expect(code <= 0x10ffff && (code < 0xd800 || code > 0xdfff), "an escape of no Unicode character");
    return code;
  }

  char32_t parse_hex(int count) {
    char32_t code = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      const char c = peek();
      const bool is_digit = c >= '0' && c <= '9', is_letter = (c | 32) >= 'a' && (c | 32) <= 'f';
      expect(is_digit || is_letter, "expected {} hexadecimal digits in an escape", count);
      code = code * 16 + static_cast<char32_t>(is_digit ? c - '0' : (c | 32) - 'a' + 10);
    }
    return code;
  }

  JsonText& json_;
  Grammar& grammar_;
  const std::string_view pattern_;
  const std::string_view where_;
  size_t at_ = 0;
};

// RFC 3339 dates and times, leap days in leap years only; RFC 4122; the mailboxes of RFC 5321 that people have.
#define MOIETY_LEAP_YEAR "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
#define MOIETY_DATE                                                                                             \
  "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))" \
  "|" MOIETY_LEAP_YEAR "-02-29)"
#define MOIETY_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define MOIETY_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define MOIETY_LABEL(most) "[A-Za-z0-9]([A-Za-z0-9-]{0," #most "}[A-Za-z0-9])?"

struct Format {
  std::string_view name, pattern;
};
constexpr Format kFormats[] = {
    {"date", "^" MOIETY_DATE "$"},
    {"time", "^" MOIETY_TIME "$"},
    {"date-time", "^" MOIETY_DATE "T" MOIETY_TIME "$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"email", "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,15}){0,2}@(" MOIETY_LABEL(30) "\\.){1,3}[A-Za-z]{2,24}$"},
    {"ipv4", "^" MOIETY_BYTE "(\\." MOIETY_BYTE "){3}$"},
    {"hostname", "^" MOIETY_LABEL(59) "(\\." MOIETY_LABEL(59) "){0,3}$"},
};

#undef MOIETY_LEAP_YEAR
#undef MOIETY_DATE
#undef MOIETY_TIME
#undef MOIETY_BYTE
#undef MOIETY_LABEL

}  // namespace

Expr string_matching(JsonText& json, std::string_view pattern, const LengthLimits& limits, std::string_view where) {
  return Parser(json, pattern, where).parse(limits);
}

std::string_view pattern_of_format(std::string_view format) {
  for (const Format& known : kFormats) {
    if (known.name == format) return known.pattern;
  }
  return {};
}

}  // namespace moiety::grammar
