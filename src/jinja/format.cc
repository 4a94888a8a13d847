// "%s" % x and "{}".format(x), which share how numbers and widths are written.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "jinja/operators.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

struct Style {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';    // + or a space: shown for positive numbers too
  bool alternate = false, thousands_comma = false, thousands_underscore = false;
  int64_t width = 0, precision = -1;
  char type = '\0';
};

constexpr int64_t kMostPrecision = 400;

std::string pad(Run& run, const Style& style, std::string_view sign, std::string text, char otherwise) {
  const size_t size = count_chars(sign) + count_chars(text);
  const size_t missing = style.width > static_cast<int64_t>(size) ? static_cast<size_t>(style.width) - size : 0;
  run.budget.allocate(missing * style.fill.size() + text.size());
  const auto fill = [&](size_t count) {
    std::string filled;
    for (size_t i = 0; i < count; ++i) filled += style.fill;
    return filled;
  };
  const std::string signed_text = std::string(sign) + text;
  switch (style.align == '\0' ? otherwise : style.align) {
    case '<':
      return signed_text + fill(missing);
    case '^':
      return fill(missing / 2) + signed_text + fill(missing - missing / 2);
    case '=':
      return std::string(sign) + fill(missing) + text;
    default:
      return fill(missing) + signed_text;
  }
}

std::string with_thousands(std::string digits, char mark) {
  const size_t point = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t at = point; at > 3;) {
    at -= 3;
    digits.insert(at, 1, mark);
  }
  return digits;
}

std::string sign_of(bool is_negative, const Style& style) {
  if (is_negative) return "-";
  return style.sign == '-' ? "" : std::string(1, style.sign);
}

std::string in_base(uint64_t n, unsigned base, bool upper) {
  std::string digits;
  do {
    const unsigned digit = static_cast<unsigned>(n % base);
    digits += static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
    n /= base;
  } while (n > 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string format_integer(Run& run, const Style& style, int64_t n) {
  const uint64_t magnitude = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
  std::string sign = sign_of(n < 0, style), digits;
  switch (style.type) {
    case 'x':
    case 'X':
      digits = in_base(magnitude, 16, style.type == 'X');
      if (style.alternate) sign += style.type == 'X' ? "0X" : "0x";
      break;
    case 'o':
      digits = in_base(magnitude, 8, false);
      if (style.alternate) sign += "0o";
      break;
    case 'b':
      digits = in_base(magnitude, 2, false);
      if (style.alternate) sign += "0b";
      break;
    case 'c': {
      std::string text;
      append_char(text, static_cast<char32_t>(std::min<uint64_t>(magnitude, 0x10ffff)));
      return pad(run, style, "", text, '<');
    }
    default:
      digits = std::to_string(magnitude);
  }
  if (style.thousands_comma) digits = with_thousands(digits, ',');
  if (style.thousands_underscore) digits = with_thousands(digits, '_');
  return pad(run, style, sign, digits, '>');
}

std::string format_float(Run& run, const Style& style, double n) {
  if (style.precision > kMostPrecision) run.fault("the precision of a format is too large");
  const double magnitude = std::abs(n);
  const bool percent = style.type == '%';
  char type = percent ? 'f' : style.type == '\0' || style.type == 'n' ? 'g' : style.type;
  std::string digits;
  if (style.type == '\0' && style.precision < 0) {
    digits = float_repr(magnitude);
  } else if (!std::isfinite(n)) {
    digits = std::isnan(n) ? "nan" : "inf";
    if (type == 'F' || type == 'E' || type == 'G') digits = to_upper(digits);
  } else {
    const std::string c_format = std::string(style.alternate ? "%#.*" : "%.*") + type;
    char buffer[800];
    const int precision = static_cast<int>(style.precision < 0 ? 6 : style.precision);
    std::snprintf(buffer, sizeof buffer, c_format.c_str(), precision, percent ? magnitude * 100 : magnitude);
    digits = buffer;
  }
  if (percent) digits += '%';
  if (style.thousands_comma) digits = with_thousands(digits, ',');
  if (style.thousands_underscore) digits = with_thousands(digits, '_');
  return pad(run, style, sign_of(std::signbit(n) && !std::isnan(n), style), digits, '>');
}

std::string cut(std::string text, int64_t chars) {
  if (chars >= 0) text.resize(byte_of(text, static_cast<size_t>(chars), false));
  return text;
}

int64_t take_number(Run& run, std::string_view format, size_t& at) {
  int64_t number = 0;
  for (; at < format.size() && format[at] >= '0' && format[at] <= '9'; ++at) {
    number = number * 10 + (format[at] - '0');
    if (number > INT32_MAX) run.fault("the width of a format is too large");
  }
  return number;
}

// Format specification of str.format: [[fill]align][sign][#][0][width][,][.precision][type]
Style parse_style(Run& run, std::string_view spec) {
  Style style;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t first = spec.empty() ? 0 : char_at(spec, 0).bytes;
  if (first < spec.size() && is_align(spec[first])) {
    style.fill = spec.substr(0, first);
    style.align = spec[first];
    at = first + 1;
  } else if (!spec.empty() && is_align(spec[0])) {
    style.align = spec[at++];
  }
  const auto skip = [&](char c) { return at < spec.size() && spec[at] == c && ++at > 0; };
  if (at < spec.size() && (spec[at] == '+' || spec[at] == ' ' || spec[at] == '-')) style.sign = spec[at++];
  style.alternate = skip('#');
  if (skip('0') && style.align == '\0') style.fill = "0", style.align = '=';
  style.width = take_number(run, spec, at);
  style.thousands_comma = skip(',');
  style.thousands_underscore = skip('_');
  if (skip('.')) style.precision = take_number(run, spec, at);
  if (at < spec.size()) style.type = spec[at++];
  if (at != spec.size()) run.fault(fmt::format("invalid format specifier '{}'", spec.substr(0, 60)));
  return style;
}

std::string format_value(Run& run, const Value& value, std::string_view spec) {
  if (spec.empty()) return run.str(value);
  Style style = parse_style(run, spec);
  static constexpr std::string_view kFloatTypes = "eEfFgG%n", kIntegerTypes = "bcdoxX";
  const bool has_type = style.type != '\0' && style.type != 's';
  if (value.is_number() && !(value.is(Type::Bool) && !has_type)) {
    if (style.type == 's') run.fault(fmt::format("unknown format code 's' for '{}'", type_name(value)));
    if (value.is(Type::Float) || (has_type && kFloatTypes.find(style.type) != kFloatTypes.npos && style.type != 'n')) {
      if (has_type && kFloatTypes.find(style.type) == kFloatTypes.npos) {
        run.fault(fmt::format("unknown format code '{}' for '{}'", style.type, type_name(value)));
      }
      return format_float(run, style, value.as_float());
    }
    if (has_type && style.type != 'n' && kIntegerTypes.find(style.type) == kIntegerTypes.npos) {
      run.fault(fmt::format("unknown format code '{}' for '{}'", style.type, type_name(value)));
    }
    return format_integer(run, style, value.as_integer());
  }
  if (has_type || !(value.is_string() || value.is(Type::Bool))) {
    run.fault(fmt::format("invalid format specifier '{}' for '{}'", spec.substr(0, 60), type_name(value)));
  }
  if (style.align == '=') style.align = '<';
  return pad(run, style, "", cut(run.str(value), style.precision), '<');
}

// The value that a field such as "0.name[key]" means.
Value field_value(Run& run, std::string_view field, const Arguments& arguments, int64_t& automatic) {
  size_t at = std::min(field.find_first_of(".["), field.size());
  const std::string_view first = field.substr(0, at);
  Value value;
  size_t digits = 0;
  const int64_t number = first.empty() ? automatic++ : take_number(run, first, digits);
  if (first.empty() || digits == first.size()) {
    if (number >= static_cast<int64_t>(arguments.positional.size())) {
      run.fault(fmt::format("format: there is no argument {}", number));
    }
    value = arguments.positional[static_cast<size_t>(number)];
  } else {
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& argument) { return argument.first->text == first; });
    if (named == arguments.named.end()) run.fault(fmt::format("format: there is no argument '{}'", first.substr(0, 60)));
    value = named->second;
  }
  while (at < field.size()) {
    const bool is_item = field[at] == '[';
    const size_t end = is_item ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
    if (end == field.npos) run.fault("format: ']' is missing");
    const std::string_view name = field.substr(at + 1, end - at - 1);
    size_t read = 0;
    const int64_t index = is_item ? take_number(run, name, read) : 0;
    if (is_item && read == name.size() && read > 0) {
      value = subscript(run, value, Value::of_int(index));
    } else {
      const Value key = run.text(std::string(name));
      value = is_item ? subscript(run, value, key) : attribute(run, value, key.string);
    }
    at = is_item ? end + 1 : end;
  }
  return value;
}

}  // namespace

std::string format_braces(Run& run, std::string_view format, const Arguments& arguments) {
  std::string out;
  int64_t automatic = 0;
  for (size_t at = 0; at < format.size();) {
    const char c = format[at];
    if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
      out += c;
      at += 2;
    } else if (c == '}') {
      run.fault("format: a single '}'");
    } else if (c != '{') {
      out += c;
      ++at;
    } else {
      const size_t end = format.find('}', at);
      if (end == format.npos) run.fault("format: a single '{'");
      std::string_view field = format.substr(at + 1, end - at - 1), spec;
      char conversion = '\0';
      if (const size_t colon = field.find(':'); colon != field.npos) {
        spec = field.substr(colon + 1);
        field = field.substr(0, colon);
      }
      if (field.size() >= 2 && field[field.size() - 2] == '!') {
        conversion = field.back();
        field.remove_suffix(2);
      }
      Value value = field_value(run, field, arguments, automatic);
      if (conversion == 'r') value = run.text(run.repr(value));
      if (conversion == 's') value = run.text(run.str(value));
      const std::string text = format_value(run, value, spec);
      run.budget.allocate(text.size());
      out += text;
      at = end + 1;
    }
  }
  return out;
}

std::string format_percent(Run& run, std::string_view format, const Value& values) {
  const bool is_tuple = is_list(values, List::Kind::Tuple);
  size_t used = 0;
  const auto next_value = [&] {
    const size_t count = is_tuple ? values.list->items.size() : 1;
    if (used >= count) run.fault("not enough arguments for format string");
    return is_tuple ? values.list->items[used++] : (++used, values);
  };
  bool by_name = false;
  std::string out;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      out += format[at++];
      continue;
    }
    ++at;
    Style style;
    std::optional<Value> named;
    if (at < format.size() && format[at] == '(') {
      const size_t end = format.find(')', at);
      if (end == format.npos) run.fault("incomplete format key");
      if (!values.is(Type::Dict)) run.fault("format requires a mapping");
      const std::string_view key = format.substr(at + 1, end - at - 1);
      const Value* found = values.dict->find(key);
      if (found == nullptr) run.fault(fmt::format("format: there is no key '{}'", key.substr(0, 60)));
      named = *found;
      by_name = true;
      at = end + 1;
    }
    bool zero = false;
    for (; at < format.size(); ++at) {
      const char flag = format[at];
      if (flag == '-') {
        style.align = '<';
      } else if (flag == '+' || (flag == ' ' && style.sign != '+')) {
        style.sign = flag;
      } else if (flag == '#') {
        style.alternate = true;
      } else if (flag == '0') {
        zero = true;
      } else if (flag != ' ') {
        break;
      }
    }
    const auto number = [&]() -> int64_t {
      if (at < format.size() && format[at] == '*') {
        ++at;
        const Value star = next_value();
        if (!star.is_integer()) run.fault("* wants int");
        return std::clamp<int64_t>(star.as_integer(), -INT32_MAX, INT32_MAX);
      }
      return take_number(run, format, at);
    };
    style.width = number();
    if (style.width < 0) style.width = -style.width, style.align = '<';
    if (at < format.size() && format[at] == '.') {
      ++at;
      style.precision = std::max<int64_t>(0, number());
    }
    while (at < format.size() && (format[at] == 'l' || format[at] == 'h' || format[at] == 'L')) ++at;
    if (at >= format.size()) run.fault("incomplete format");
    style.type = format[at++];
    if (style.type == '%') {
      out += '%';
      continue;
    }
    const Value value = named ? *named : next_value();
    static constexpr std::string_view kNumbers = "diuxXoeEfFgG";
    std::string text;
    if (style.type == 's' || style.type == 'r' || style.type == 'a' || style.type == 'c') {
      if (style.type == 'c' && value.is_integer()) {
        text = format_integer(run, style, value.as_integer());
      } else {
        text = pad(run, style, "", cut(style.type == 'r' ? run.repr(value) : run.str(value), style.precision), '>');
      }
    } else if (kNumbers.find(style.type) != kNumbers.npos) {
      if (!value.is_number()) run.fault(fmt::format("%{} format: a number is required, not {}", style.type, type_name(value)));
      if (zero && style.align == '\0') style.fill = "0", style.align = '=';
      const bool is_float = std::string_view("eEfFgG").find(style.type) != std::string_view::npos;
      if (is_float) {
        text = format_float(run, style, value.as_float());
      } else {
        const double number_value = value.as_float();
        if (!(std::abs(number_value) < 9.2e18)) run.fault("an integer does not fit in 64 bits");
        text = format_integer(run, style, value.is_integer() ? value.as_integer() : static_cast<int64_t>(number_value));
      }
    } else {
      run.fault(fmt::format("unsupported format character '{}'", style.type));
    }
    run.budget.allocate(text.size());
    out += text;
  }
  if (is_tuple && used < values.list->items.size()) run.fault("not all arguments converted during string formatting");
  const bool is_mapping = values.is(Type::Dict) || values.is(Type::List);
  if (!is_tuple && !by_name && used == 0 && !is_mapping) run.fault("not all arguments converted during string formatting");
  return out;
}

}  // namespace moiety::jinja
