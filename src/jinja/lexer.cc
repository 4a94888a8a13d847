#include "jinja/lexer.h"

#include <fmt/core.h>

#include <algorithm>

#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

using Kind = Token::Kind;

constexpr std::string_view kOperators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                           "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

// \r\n and \r become \n; one newline at the end goes.
std::string normalise_newlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_digit_byte(char c) { return c >= '0' && c <= '9'; }
bool is_name_byte(char c) {
  return is_digit_byte(c) || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalise_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) data();
    tokens_.push_back({Kind::End, "", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string what) const { throw Fault{FaultKind::Syntax, line_, std::move(what)}; }

  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool starts(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }

  void advance_to(size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + at_, text_.begin() + to, '\n'));
    at_ = to;
  }
  void skip_space() {
    while (at_ < text_.size()) {
      const Char c = char_at(text_, at_);
      if (!is_space(c.code)) return;
      advance_to(at_ + c.bytes);
    }
  }

  // Plain text up to the next tag, and what the tag opens.
  void data() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 >= text_.size()) break;
      if (text_[tag + 1] == '{' || text_[tag + 1] == '%' || text_[tag + 1] == '#') break;
    }
    if (tag == text_.npos || tag + 1 >= text_.size()) {
      emit_data(std::string_view(text_).substr(at_));
      advance_to(text_.size());
      return;
    }
    const char kind = text_[tag + 1];
    emit_data(before_tag(tag, kind != '{'));
    advance_to(tag + 2);
    if (peek() == '-' || peek() == '+') advance_to(at_ + 1);
    if (kind == '#') return comment();
    if (kind == '%' && is_raw()) return raw();

    tokens_.push_back({kind == '{' ? Kind::PrintBegin : Kind::BlockBegin, "", line_});
    inside(kind == '{');
  }

  // The text from at_ to the tag, without the white space that the tag takes along.
  std::string_view before_tag(size_t tag, bool is_block) const {
    const std::string_view all(text_);
    std::string_view before = all.substr(at_, tag - at_);
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    if (sign == '-') return strip_space(before, false, true);
    if (sign == '+' || !is_block) return before;
    // lstrip_blocks: only white space between the start of the line and the tag
    const size_t newline = before.rfind('\n');
    const size_t line_start = newline == before.npos ? 0 : newline + 1;
    const bool at_line_start = line_start > 0 || at_ == 0 || text_[at_ - 1] == '\n';
    if (at_line_start && strip_space(before.substr(line_start)).empty()) return before.substr(0, line_start);
    return before;
  }

  void emit_data(std::string_view data) {
    if (!data.empty()) tokens_.push_back({Kind::Data, std::string(data), line_});
  }

  // After the sign of a closing tag's end: '-' takes the white space behind, otherwise one newline goes (trim_blocks).
  void after_block(char sign) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && peek() == '\n') {
      advance_to(at_ + 1);
    }
  }

  void comment() {
    const size_t end = text_.find("#}", at_);
    if (end == text_.npos) fail("a comment is not closed by '#}'");
    const char sign = end > at_ ? text_[end - 1] : '\0';
    advance_to(end + 2);
    after_block(sign);
  }

  // The end of a tag that starts at `at` with optional white space and this word; npos if there is none.
  size_t end_of_tag(size_t at, std::string_view word, char& sign) const {
    const std::string_view all(text_);
    const auto skip = [&] {
      while (at < all.size()) {
        const Char c = char_at(all, at);
        if (!is_space(c.code)) return;
        at += c.bytes;
      }
    };
    skip();
    if (!all.substr(at).starts_with(word)) return all.npos;
    at += word.size();
    skip();
    sign = at < all.size() ? all[at] : '\0';
    if (sign == '-' || sign == '+') ++at;
    return all.substr(at).starts_with("%}") ? at + 2 : all.npos;
  }

  bool is_raw() const {
    char sign;
    return end_of_tag(at_, "raw", sign) != text_.npos;
  }

  void raw() {
    char sign = 0;
    advance_to(end_of_tag(at_, "raw", sign));
    if (sign == '-') skip_space();
    for (size_t tag = text_.find("{%", at_); tag != text_.npos; tag = text_.find("{%", tag + 2)) {
      size_t inner = tag + 2;
      if (inner < text_.size() && (text_[inner] == '-' || text_[inner] == '+')) ++inner;
      const size_t end = end_of_tag(inner, "endraw", sign);
      if (end == text_.npos) continue;
      emit_data(before_tag(tag, true));
      advance_to(end);
      return after_block(sign);
    }
    fail("'raw' is not closed by 'endraw'");
  }

  // The tokens of an expression or statement, to its end.
  void inside(bool is_print) {
    std::string open;  // brackets not closed yet: within them "}}" and "%}" are no ends
    while (true) {
      skip_space();
      if (at_ >= text_.size()) fail(is_print ? "'{{' is not closed by '}}'" : "'{%' is not closed by '%}'");
      if (open.empty() && end_of_expression(is_print)) return;
      const char c = peek();
      if (c == '\'' || c == '"') {
        string(c);
      } else if (is_digit_byte(c)) {
        number();
      } else if (is_name_byte(c)) {
        name();
      } else {
        operator_token(open);
      }
    }
  }

  bool end_of_expression(bool is_print) {
    const std::string_view end = is_print ? "}}" : "%}";
    const char sign = peek();
    const bool signed_end = (sign == '-' || (sign == '+' && !is_print)) && std::string_view(text_).substr(at_ + 1).starts_with(end);
    if (!signed_end && !starts(end)) return false;
    tokens_.push_back({is_print ? Kind::PrintEnd : Kind::BlockEnd, "", line_});
    advance_to(at_ + (signed_end ? 3 : 2));
    if (is_print) {
      if (signed_end) skip_space();
    } else {
      after_block(signed_end ? sign : '\0');
    }
    return true;
  }

  void name() {
    size_t end = at_;
    while (end < text_.size() && is_name_byte(text_[end])) ++end;
    tokens_.push_back({Kind::Name, text_.substr(at_, end - at_), line_});
    at_ = end;
  }

  size_t digits(size_t at) const {
    while (at < text_.size() && (is_digit_byte(text_[at]) || (text_[at] == '_' && at + 1 < text_.size() &&
                                                              is_digit_byte(text_[at + 1])))) {
      ++at;
    }
    return at;
  }

  void number() {
    size_t end = digits(at_);
    Kind kind = Kind::Integer;
    const char mark = static_cast<char>(peek(1) | 32);
    if (peek() == '0' && (mark == 'x' || mark == 'o' || mark == 'b')) {
      end = at_ + 2;
      while (end < text_.size() && (is_digit_byte(text_[end]) || text_[end] == '_' ||
                                    (mark == 'x' && (text_[end] | 32) >= 'a' && (text_[end] | 32) <= 'f'))) {
        ++end;
      }
    } else if (tokens_.empty() || !tokens_.back().is_operator(".")) {  // "a.0.1" is no float
      if (end + 1 < text_.size() && text_[end] == '.' && is_digit_byte(text_[end + 1])) {
        end = digits(end + 1);
        kind = Kind::Float;
      }
      if (end < text_.size() && (text_[end] | 32) == 'e') {
        size_t power = end + 1;
        if (power < text_.size() && (text_[power] == '+' || text_[power] == '-')) ++power;
        if (power < text_.size() && is_digit_byte(text_[power])) {
          end = digits(power);
          kind = Kind::Float;
        }
      }
    }
    std::string digits_only = text_.substr(at_, end - at_);
    std::erase(digits_only, '_');
    if (digits_only.size() > 400) fail("a number of more than 400 digits");
    tokens_.push_back({kind, std::move(digits_only), line_});
    at_ = end;
  }

  void operator_token(std::string& open) {
    for (const std::string_view op : kOperators) {
      if (!starts(op)) continue;
      const char c = op[0];
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty()) fail(fmt::format("unexpected '{}'", c));
        if (open.back() != c) fail(fmt::format("unexpected '{}', expected '{}'", c, open.back()));
        open.pop_back();
      }
      tokens_.push_back({Kind::Operator, std::string(op), line_});
      at_ += op.size();
      return;
    }
    const Char c = char_at(text_, at_);
    fail(fmt::format("unexpected character '{}'", text_.substr(at_, c.bytes)));
  }

  void string(char quote) {
    const int line = line_;
    std::string value;
    size_t at = at_ + 1;
    while (true) {
      const size_t next = text_.find_first_of(quote == '\'' ? "'\\" : "\"\\", at);
      if (next == text_.npos) fail("a string is not closed");
      value.append(text_, at, next - at);
      at = next + 1;
      if (text_[next] == quote) break;
      if (at == text_.size()) fail("a string is not closed");
      at = escape(at, value);
    }
    advance_to(at);
    tokens_.push_back({Kind::String, std::move(value), line});
  }

  // Python's escapes; `at` is behind the backslash. Returns where the text goes on.
  size_t escape(size_t at, std::string& value) {
    const char c = text_[at];
    static constexpr std::string_view kFrom = "ntrabfv\\'\"\n", kTo = "\n\t\r\a\b\f\v\\'\"";
    if (const size_t simple = kFrom.find(c); simple != kFrom.npos) {
      if (c != '\n') value += kTo[simple];
      return at + 1;
    }
    size_t most = 0, base = 16, from = at + 1;
    if (c == 'x') most = 2;
    if (c == 'u') most = 4;
    if (c == 'U') most = 8;
    if (c >= '0' && c <= '7') most = 3, base = 8, from = at;
    if (most == 0) {
      value += '\\';
      return at;
    }
    uint32_t code = 0;
    size_t end = from;
    for (; end < text_.size() && end < from + most; ++end) {
      const char digit = text_[end];
      const int n = is_digit_byte(digit) ? digit - '0' : (digit | 32) >= 'a' && (digit | 32) <= 'f' ? (digit | 32) - 'a' + 10 : 99;
      if (n >= static_cast<int>(base)) break;
      code = code * static_cast<uint32_t>(base) + static_cast<uint32_t>(n);
    }
    if (base == 16 && end != from + most) fail("a string has an escape that is cut short");
    if (code > 0x10ffff) fail("a string has an escape that is no character");
    append_char(value, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return end;
  }

  const std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace moiety::jinja
