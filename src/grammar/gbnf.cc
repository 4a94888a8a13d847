#include "grammar/gbnf.h"

#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "text/utf8.h"

namespace moiety::grammar {
namespace {

constexpr int kDeepestGroup = 64;
constexpr size_t kLongestSource = 1 << 20;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {}

  Grammar parse() {
    require(source_.size() <= kLongestSource, "grammar: {} bytes; at most {} are read", source_.size(), kLongestSource);
    skip_space(true);
    while (at_ < source_.size()) {
      parse_rule();
      skip_space(true);
    }
    for (const auto& [name, rule] : rules_) {
      require(grammar_.is_defined(rule), "grammar: the rule \"{}\" is used and not defined", name);
    }
    const auto root = rules_.find("root");
    require(root != rules_.end(), "grammar: there is no rule \"root\"");
    grammar_.set_root(root->second);
    return std::move(grammar_);
  }

 private:
  template <class... Args>
  void expect(bool ok, fmt::format_string<Args...> format, Args&&... args) const {
    if (ok) return;
    size_t line = 1;
    for (const char c : source_.substr(0, at_)) line += c == '\n';
    fail(ErrorKind::Input, "grammar: line {}: {}", line, fmt::format(format, std::forward<Args>(args)...));
  }

  char peek() const { return at_ < source_.size() ? source_[at_] : '\0'; }
  bool take(std::string_view wanted) {
    if (!source_.substr(at_).starts_with(wanted)) return false;
    at_ += wanted.size();
    return true;
  }

  void skip_space(bool newlines) {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '#') {
        while (at_ < source_.size() && source_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || (newlines && c == '\n')) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string parse_name() {
    const size_t begin = at_;
    while (is_name_char(peek())) ++at_;
    expect(at_ > begin, "expected the name of a rule");
    return std::string(source_.substr(begin, at_ - begin));
  }

  RuleId rule_named(const std::string& name) {
    const auto known = rules_.find(name);
    return known != rules_.end() ? known->second : rules_.emplace(name, grammar_.add_rule(name)).first->second;
  }

  void parse_rule() {
    const std::string name = parse_name();
    skip_space(false);
    expect(take("::="), "expected \"::=\" after the rule's name \"{}\"", name);
    const RuleId rule = rule_named(name);
    expect(!grammar_.is_defined(rule), "the rule \"{}\" is defined twice", name);
    skip_space(true);
    grammar_.define(rule, parse_alternatives(0));
    expect(at_ == source_.size() || peek() == '\n', "expected the end of the line after the rule \"{}\"", name);
  }

  // Inside a group a line may end anywhere, outside of one only after a '|'.
  Expr parse_alternatives(int depth) {
    std::vector<Expr> alternatives = {parse_sequence(depth)};
    while (take("|")) {
      skip_space(true);
      alternatives.push_back(parse_sequence(depth));
    }
    return grammar_.choice(std::move(alternatives));
  }

  Expr parse_sequence(int depth) {
    std::vector<Expr> parts;
    while (const std::optional<Expr> item = parse_item(depth)) {
      skip_space(depth > 0);
      parts.push_back(parse_repetition(*item, depth));
    }
    return grammar_.sequence(std::move(parts));
  }

  // Null if no item begins here.
  std::optional<Expr> parse_item(int depth) {
    const char c = peek();
    if (c == '"') return parse_text();
    if (c == '[') return parse_class();
    if (c == '<') return parse_token();
    if (take(".")) return grammar_.set(CodeSet::all());
    if (is_name_char(c)) return grammar_.call(rule_named(parse_name()));
    expect(c != '!', "tokens that must not come (!<token>) are not supported");
    if (!take("(")) return std::nullopt;
    expect(depth < kDeepestGroup, "groups nested deeper than {}", kDeepestGroup);
    skip_space(true);
    const Expr group = parse_alternatives(depth + 1);
    expect(take(")"), "expected \")\" at the end of a group");
    return group;
  }

  Expr parse_text() {
    ++at_;
    std::string text;
    while (peek() != '"') text::append_utf8(text, parse_char("a quoted text"));
    ++at_;
    return grammar_.text(text);
  }

  Expr parse_class() {
    ++at_;
    const bool is_negated = take("^");
    std::vector<CodeRange> ranges;
    while (peek() != ']') {
      const char32_t first = parse_char("a character class");
      const bool is_range = peek() == '-' && at_ + 1 < source_.size() && source_[at_ + 1] != ']';
      at_ += is_range;
      const char32_t last = is_range ? parse_char("a character class") : first;
      expect(first <= last, "a range in a character class goes backwards");
      ranges.push_back({first, last});
    }
    ++at_;
    CodeSet set(std::move(ranges));
    return grammar_.set(is_negated ? set.complement() : std::move(set));
  }

  // <text> is the special token of that text, with its angle brackets.
  Expr parse_token() {
    const size_t end = source_.find_first_of(">\n", at_);
    expect(end != source_.npos && source_[end] == '>', "expected \">\" at the end of a token");
    const std::string_view token = source_.substr(at_, end + 1 - at_);
    expect(!token.starts_with("<["), "tokens by their number (<[1000]>) are not supported; write <text>");
    at_ = end + 1;
    return grammar_.special_token(token);
  }

  char32_t parse_char(std::string_view where) {
    expect(at_ < source_.size() && peek() != '\n', "{} is not closed", where);
    if (take("\\")) return parse_escape();
    const text::Utf8Char c = text::utf8_char(source_, at_);
    expect(c.kind == text::Utf8Char::Kind::Valid, "not valid UTF-8");
    at_ += c.bytes;
    return c.code;
  }

  char32_t parse_escape() {
    expect(at_ < source_.size(), "an escape is cut off");
    const char c = source_[at_++];
    switch (c) {
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'x': return parse_hex(2);
      case 'u': return parse_hex(4);
      case 'U': return parse_hex(8);
      case '\\': case '"': case '[': case ']': case '-': case '^': return static_cast<char32_t>(c);
      default: break;
    }
    expect(false, "an escape that doesn't exist: \\ before byte {:#04x}", static_cast<unsigned>(static_cast<uint8_t>(c)));
    return 0;
  }

  char32_t parse_hex(int digits) {
    uint64_t code = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      expect(hex_digit(peek()) >= 0, "expected {} hexadecimal digits in an escape", digits);
      code = code * 16 + static_cast<uint64_t>(hex_digit(peek()));
    }
    expect(code <= 0x10ffff && (code < 0xd800 || code > 0xdfff), "an escape of no Unicode character");
    return static_cast<char32_t>(code);
  }

  Expr parse_repetition(Expr item, int depth) {
    for (int repetitions = 0;; ++repetitions) {
      if (take("*")) {
        item = grammar_.repeat(item, 0);
      } else if (take("+")) {
        item = grammar_.repeat(item, 1);
      } else if (take("?")) {
        item = grammar_.optional(item);
      } else if (take("{")) {
        item = parse_counts(item);
      } else {
        return item;
      }
      expect(repetitions < kDeepestGroup, "more than {} repetitions of one thing", kDeepestGroup);
      skip_space(depth > 0);
    }
  }

  Expr parse_counts(Expr item) {
    skip_space(false);
    const bool from_none = peek() == ',';
    const uint32_t min = from_none ? 0 : parse_count();
    uint32_t max = min;
    skip_space(false);
    if (take(",")) {
      skip_space(false);
      max = peek() == '}' && !from_none ? kUnlimited : parse_count();
      skip_space(false);
    }
    expect(take("}"), "expected \"}}\" after the counts of a repetition");
    expect(min <= max, "a repetition of at least {} and at most {}", min, max);
    return grammar_.repeat(item, min, max);
  }

  uint32_t parse_count() {
    uint64_t count = 0;
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') {
      count = count * 10 + static_cast<uint64_t>(source_[at_++] - '0');
      expect(count <= 1'000'000'000, "a repetition of more than a thousand million");
    }
    expect(at_ > begin, "expected a number in a repetition");
    return static_cast<uint32_t>(count);
  }

  std::string_view source_;
  size_t at_ = 0;
  Grammar grammar_;
  std::map<std::string, RuleId> rules_;
};

}  // namespace

Grammar parse_gbnf(std::string_view source) {
  return Parser(source).parse();
}

}  // namespace moiety::grammar
