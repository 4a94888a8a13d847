#include "jinja/print.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

void charge(std::string_view added, Budget& budget) { budget.allocate(added.size()); }

void append_string_repr(std::string& out, std::string_view text, Budget& budget) {
  const bool single = text.find('\'') != text.npos, both = single && text.find('"') != text.npos;
  const char quote = single && !both ? '"' : '\'';
  out += quote;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    at += c.bytes;
    if (c.code == static_cast<char32_t>(quote) || c.code == '\\') {
      out += '\\';
      out += static_cast<char>(c.code);
    } else if (c.code == '\n') {
      out += "\\n";
    } else if (c.code == '\r') {
      out += "\\r";
    } else if (c.code == '\t') {
      out += "\\t";
    } else if (is_printable(c.code)) {
      append_char(out, c.code);
    } else if (budget.allocate(8); c.code < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c.code));
    } else if (c.code < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c.code));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c.code));
    }
  }
  out += quote;
}

class Reprs {
 public:
  Reprs(std::string& out, Budget& budget) : out_(out), budget_(budget) {}

  void repr(const Value& v) {
    budget_.step();
    switch (v.type) {
      case Type::Undefined:
        out_ += "Undefined";
        break;
      case Type::None:
        out_ += "None";
        break;
      case Type::Bool:
        out_ += v.boolean ? "True" : "False";
        break;
      case Type::Int:
        out_ += std::to_string(v.integer);
        break;
      case Type::Float:
        out_ += float_repr(v.number);
        break;
      case Type::String:
        charge(v.text(), budget_);
        if (v.string->markup) out_ += "Markup(";
        append_string_repr(out_, v.text(), budget_);
        if (v.string->markup) out_ += ")";
        break;
      case Type::List:
        nested([&] { list(*v.list); });
        break;
      case Type::Dict:
        nested([&] { dict(*v.dict); });
        break;
      case Type::Object:
        out_ += fmt::format("<{}>", v.object->type_name());
        break;
    }
  }

 private:
  template <class Body>
  void nested(Body body) {
    if (++depth_ > budget_.limits.value_depth) budget_.spent("nesting", budget_.limits.value_depth, "levels");
    budget_.allocate(4);
    body();
    --depth_;
  }

  void items(const std::vector<Value>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) out_ += ", ";
      budget_.allocate(2);
      repr(values[i]);
    }
  }

  void list(const List& l) {
    switch (l.kind) {
      case List::Kind::List:
        out_ += '[';
        items(l.items);
        out_ += ']';
        break;
      case List::Kind::Tuple:
        out_ += '(';
        items(l.items);
        out_ += l.items.size() == 1 ? ",)" : ")";
        break;
      case List::Kind::Range:
        range(l.items);
        break;
      case List::Kind::View:
        out_ += fmt::format("{}([", l.name);
        items(l.items);
        out_ += "])";
        break;
      case List::Kind::Iterator:
        out_ += fmt::format("<{} object>", l.name);
        break;
    }
  }

  void range(const std::vector<Value>& numbers) {
    if (numbers.empty()) {
      out_ += "range(0, 0)";
      return;
    }
    const int64_t first = numbers[0].integer;
    const int64_t step = numbers.size() > 1 ? numbers[1].integer - first : 1;
    out_ += fmt::format("range({}, {}", first, numbers.back().integer + step);
    out_ += step == 1 ? ")" : fmt::format(", {})", step);
  }

  void dict(const Dict& d) {
    out_ += '{';
    bool first = true;
    for (const auto& [key, value] : d.entries()) {
      if (!first) out_ += ", ";
      first = false;
      budget_.allocate(4);
      repr(key);
      out_ += ": ";
      repr(value);
    }
    out_ += '}';
  }

  std::string& out_;
  Budget& budget_;
  int depth_ = 0;
};

class JsonWriter {
 public:
  JsonWriter(std::string& out, const JsonStyle& style, Budget& budget) : out_(out), style_(style), budget_(budget) {}

  void write(const Value& v) {
    budget_.step();
    switch (v.type) {
      case Type::None:
        out_ += "null";
        break;
      case Type::Bool:
        out_ += v.boolean ? "true" : "false";
        break;
      case Type::Int:
        out_ += std::to_string(v.integer);
        break;
      case Type::Float:
        number(v.number);
        break;
      case Type::String:
        string(v.text());
        break;
      case Type::List:
        if (v.list->kind != List::Kind::List && v.list->kind != List::Kind::Tuple) refuse(v);
        array(v.list->items);
        break;
      case Type::Dict:
        object(*v.dict);
        break;
      case Type::Undefined:
      case Type::Object:
        refuse(v);
    }
  }

 private:
  [[noreturn]] void refuse(const Value& v) {
    std::string why = fmt::format("Object of type {} is not JSON serializable", type_name(v));
    if (v.is_undefined()) why += fmt::format(": {}", why_undefined(v));
    budget_.fault(std::move(why));
  }

  void number(double n) {
    if (std::isnan(n)) {
      out_ += "NaN";
    } else if (std::isinf(n)) {
      out_ += n > 0 ? "Infinity" : "-Infinity";
    } else {
      out_ += float_repr(n);
    }
  }

  void string(std::string_view text) {
    charge(text, budget_);
    out_ += '"';
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      switch (c) {
        case '"':
          out_ += "\\\"";
          break;
        case '\\':
          out_ += "\\\\";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        case '\b':
          out_ += "\\b";
          break;
        case '\f':
          out_ += "\\f";
          break;
        default:
          if (static_cast<unsigned char>(c) < 32) {
            budget_.allocate(5);
            out_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
          } else if (style_.ascii && static_cast<unsigned char>(c) >= 0x80) {
            const Char wide = char_at(text, at);
            escape(wide.code);
            at += wide.bytes;
            continue;
          } else {
            out_ += c;
          }
      }
      ++at;
    }
    out_ += '"';
  }

  void escape(char32_t code) {
    budget_.allocate(12);
    if (code >= 0x110000) code = 0xfffd;
    if (code < 0x10000) {
      out_ += fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
      return;
    }
    const uint32_t rest = static_cast<uint32_t>(code) - 0x10000;
    out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
  }

  void new_line() {
    if (!style_.indent) return;
    budget_.allocate(1 + style_.indent->size() * static_cast<size_t>(depth_));
    out_ += '\n';
    for (int i = 0; i < depth_; ++i) out_ += *style_.indent;
  }

  template <class Items, class Each>
  void brackets(char open, char close, const Items& items, Each each) {
    out_ += open;
    if (!items.empty()) {
      if (++depth_ > budget_.limits.value_depth) budget_.spent("nesting", budget_.limits.value_depth, "levels");
      bool first = true;
      for (const auto& item : items) {
        budget_.allocate(style_.item.size() + style_.key.size());
        if (!first) out_ += style_.item;
        first = false;
        new_line();
        each(item);
      }
      --depth_;
      new_line();
    }
    out_ += close;
  }

  void array(const std::vector<Value>& items) {
    brackets('[', ']', items, [&](const Value& item) { write(item); });
  }

  void object(const Dict& d) {
    std::vector<Dict::Entry> sorted;
    if (style_.sort_keys) {
      sorted = d.entries();
      std::stable_sort(sorted.begin(), sorted.end(),
                       [&](const auto& a, const auto& b) { return less(a.first, b.first, budget_); });
    }
    brackets('{', '}', style_.sort_keys ? sorted : d.entries(), [&](const Dict::Entry& entry) {
      key(entry.first);
      out_ += style_.key;
      write(entry.second);
    });
  }

  void key(const Value& v) {
    if (v.is_string()) return string(v.text());
    if (!v.is_number() && !v.is(Type::None)) {
      budget_.fault(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(v)));
    }
    out_ += '"';
    write(v);
    out_ += '"';
  }

  std::string& out_;
  const JsonStyle& style_;
  Budget& budget_;
  int depth_ = 0;
};

}  // namespace

void append_str(std::string& out, const Value& value, Budget& budget) {
  if (value.is_string()) {
    charge(value.text(), budget);
    out += value.text();
  } else if (!value.is_undefined()) {
    append_repr(out, value, budget);
  }
}

void append_repr(std::string& out, const Value& value, Budget& budget) { Reprs(out, budget).repr(value); }

std::string float_repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }

  std::string out = text[0] == '-' ? "-" : "";
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return out + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return out + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." + digits.substr(static_cast<size_t>(exponent) + 1);
}

void append_json(std::string& out, const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter(out, style, budget).write(value);
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace moiety::jinja
