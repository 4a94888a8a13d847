#include "text/oniguruma.h"

#include <fmt/format.h>

#include <cctype>
#include <vector>

#include "base/error.h"

namespace moiety::text {
namespace {

constexpr int kDeepest = 100;

// Oniguruma's \s is Unicode's White_Space (PCRE2's has U+180E as well), its \w has marks and all
// connectors.
constexpr std::string_view kSpace = "\\p{White_Space}", kNoSpace = "\\P{White_Space}";
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kHex = "0-9a-fA-F";

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  bool starts(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorKind::Input, "pattern {}: {} (at character {})", in_, what, at_);
  }

  void step() {
    const char c = peek();
    if (c == '\\') return atom(escape());
    if (c == '[') return atom(char_class(0));
    if (c == '(') {
      open_.push_back(out_.size());
    } else if (c == ')') {
      if (!open_.empty()) {
        atom_ = open_.back();
        open_.pop_back();
      }
    } else if (c == '{' && interval_length() > 0) {
      return interval();
    } else if (std::string_view("?*+|^$").find(c) == std::string_view::npos &&
               (static_cast<unsigned char>(c) & 0xc0) != 0x80) {
      atom_ = out_.size();
    }
    out_ += c;
    ++at_;
  }

  void atom(const std::string& text) {
    atom_ = out_.size();
    out_ += text;
  }

  // Bytes of "{2}", "{1,3}", "{,3}" or "{2,}" here, else 0.
  size_t interval_length() const {
    size_t i = 1;
    bool digits = false;
    for (; std::isdigit(static_cast<unsigned char>(peek(i))) || peek(i) == ','; ++i)
      digits |= peek(i) != ',';
    return digits && peek(i) == '}' ? i + 1 : 0;
  }

  // In Ruby x{1,3}+ is one or more of x{1,3}; in PCRE2 it would be possessive.
  void interval() {
    const size_t length = interval_length();
    std::string text(in_.substr(at_, length));
    if (text.starts_with("{,")) text.insert(1, "0");
    out_ += text;
    at_ += length;
    if (peek() != '+') return;
    out_ = fmt::format("{}(?:{})", out_.substr(0, atom_), out_.substr(atom_));
  }

  std::string escape() {
    const char c = peek(1);
    if (at_ + 1 >= in_.size()) refuse("ends in a backslash");
    if (c == 'p' || c == 'P') return property();
    if (c == 'u') return code_point();
    at_ += 2;
    switch (c) {
      case 's':
        return std::string(kSpace);
      case 'S':
        return std::string(kNoSpace);
      case 'w':
        return fmt::format("[{}]", kWord);
      case 'W':
        return fmt::format("[^{}]", kWord);
      case 'h':
        return fmt::format("[{}]", kHex);
      case 'H':
        return fmt::format("[^{}]", kHex);
      default:
        return {'\\', c};
    }
  }

  std::string property() {
    const size_t end = peek(2) == '{' ? in_.find('}', at_) : std::string_view::npos;
    if (end == std::string_view::npos) refuse("\\p without a name in braces");
    const std::string text(in_.substr(at_, end + 1 - at_));
    at_ = end + 1;
    return text;
  }

  // \u00e9
  std::string code_point() {
    const std::string_view digits = in_.substr(std::min(at_ + 2, in_.size()), 4);
    if (digits.size() < 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
      refuse("\\u without four hexadecimal digits");
    at_ += 6;
    return fmt::format("\\x{{{}}}", digits);
  }

  // "[…]" as an expression that matches one character. Ruby's classes may hold others and
  // intersections.
  std::string char_class(int depth) {
    if (depth > kDeepest) refuse("classes nested too deep");
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;

    std::string items, conditions;
    bool first = true;
    for (; peek() != ']' || first; first = false) {
      if (at_ >= in_.size()) refuse("a class without its ]");
      if (starts("&&")) {
        at_ += 2;
        conditions += fmt::format("(?=[{}])", items);
        items.clear();
      } else if (starts("[:")) {
        items += posix_class();
      } else if (peek() == '[') {
        const std::string inner = char_class(depth + 1);
        if (inner.starts_with("[^") || !inner.starts_with("[")) {
          // Only as the whole of one side of an intersection can this be said in PCRE2.
          if (!items.empty() || (peek() != ']' && !starts("&&"))) refuse("a class inside a class");
          conditions += fmt::format("(?={})", inner);
          if (starts("&&")) at_ += 2;
        } else {
          items += inner.substr(1, inner.size() - 2);
        }
      } else {
        items += class_item();
      }
    }
    ++at_;
    return put_together(conditions, items, negated);
  }

  std::string put_together(const std::string& conditions, const std::string& items, bool negated) {
    if (conditions.empty()) return fmt::format("[{}{}]", negated ? "^" : "", items);
    const std::string one = items.empty() ? "(?s:.)" : fmt::format("[{}]", items);
    if (negated) return fmt::format("(?:(?!{}{})(?s:.))", conditions, one);
    return fmt::format("(?:{}{})", conditions, one);
  }

  std::string posix_class() {
    const size_t end = in_.find(":]", at_);
    if (end == std::string_view::npos) refuse("[: without :]");
    const std::string text(in_.substr(at_, end + 2 - at_));
    at_ = end + 2;
    // Oniguruma counts all symbols as punctuation.
    return text == "[:punct:]" ? "\\p{P}\\p{S}" : text;
  }

  std::string class_item() {
    if (peek() != '\\') return {in_[at_++]};
    const char c = peek(1);
    if (c == 'W' || c == 'H') refuse("\\W or \\H inside a class");
    if (c == 'w' || c == 'h') {
      at_ += 2;
      return std::string(c == 'w' ? kWord : kHex);
    }
    return escape();
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;           // where in out_ the thing that a quantifier would repeat begins
  std::vector<size_t> open_;  // the same for groups not yet closed
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern) { return Rewriter(pattern).run(); }

}  // namespace moiety::text
