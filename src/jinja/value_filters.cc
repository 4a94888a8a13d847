// Filters over any value: conversions, defaults, numbers, JSON.
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>

#include "jinja/operators.h"
#include "jinja/tables.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

[[noreturn]] void refuse(const Call& c, const char* what) {
  if (c.self.is_undefined()) c.run.fault(why_undefined(c.self));
  c.run.fault(fmt::format("{} of '{}'", what, type_name(c.self)));
}

Value absolute(const Call& c) {
  if (c.self.is(Type::Float)) return Value::of_float(std::abs(c.self.number));
  if (!c.self.is_integer()) refuse(c, "abs()");
  return c.self.as_integer() < 0 ? negate(c.run, c.self) : Value::of_int(c.self.as_integer());
}

Value attr(const Call& c) {
  const Value name = c.run.text(c.text(0, ""));
  // Attributes only: an element of this name does not count.
  if (c.self.is(Type::Dict) && find_method(c.self, name.text()) == nullptr) {
    return Value::undefined(name.string, type_name(c.self));
  }
  return attribute(c.run, c.self, name.string);
}

Value otherwise(const Call& c) {
  const bool missing = c.self.is_undefined() || (c.truth(1, false) && !is_true(c.self));
  if (!missing) return c.self;
  return c.has(0) ? c.at(0) : c.run.text("");
}

// Text as Python's int() reads it; nothing if it is none.
std::optional<int64_t> read_integer(std::string_view text, int64_t base) {
  text = strip_space(text);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between_digits = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_';
    if (!between_digits) digits += text[i];
  }
  const size_t sign = !digits.empty() && (digits[0] == '-' || digits[0] == '+') ? 1 : 0;
  if (digits.size() <= sign || !std::isalnum(static_cast<unsigned char>(digits[sign]))) return std::nullopt;
  const char mark = digits.size() > sign + 2 && digits[sign] == '0' ? static_cast<char>(digits[sign + 1] | 32) : '\0';
  if ((base == 2 && mark == 'b') || (base == 8 && mark == 'o')) digits.erase(sign, 2);
  char* end = nullptr;
  errno = 0;
  const int64_t value = std::strtoll(digits.c_str(), &end, static_cast<int>(base));
  if (errno != 0 || end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> read_float(std::string_view text) {
  text = strip_space(text);
  std::string digits(text);
  std::erase(digits, '_');
  if (digits.empty() || digits.find_first_of("xXpP") != digits.npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  return end == digits.c_str() + digits.size() ? std::optional(value) : std::nullopt;
}

std::optional<Value> whole(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return Value::of_int(static_cast<int64_t>(value));
}

Value to_integer(const Call& c) {
  const Value fallback = c.value(0, Value::of_int(0));
  if (c.self.is_undefined()) c.run.fault(why_undefined(c.self));
  if (c.self.is_integer()) return Value::of_int(c.self.as_integer());
  if (c.self.is(Type::Float)) return whole(c.self.number).value_or(fallback);
  if (!c.self.is_string()) return fallback;
  const int64_t base = c.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) return fallback;
  if (const auto value = read_integer(c.self.text(), base)) return Value::of_int(*value);
  const auto value = read_float(c.self.text());
  return value ? whole(*value).value_or(fallback) : fallback;
}

Value to_float(const Call& c) {
  if (c.self.is_undefined()) c.run.fault(why_undefined(c.self));
  if (c.self.is_number()) return Value::of_float(c.self.as_float());
  const auto value = c.self.is_string() ? read_float(c.self.text()) : std::nullopt;
  return value ? Value::of_float(*value) : c.value(0, Value::of_float(0));
}

double round_float(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < -300) return 0;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / scale) * scale;
  }
  char buffer[800];  // printf rounds the exact value, ties to even, as Python does
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), value);
  return std::strtod(buffer, nullptr);
}

Value round(const Call& c) {
  if (!c.self.is_number()) refuse(c, "round()");
  const int64_t precision = c.integer(0, 0);
  const std::string method = c.text(1, "common");
  if (method == "common") {
    if (c.self.is_integer() && precision >= 0) return Value::of_int(c.self.as_integer());
    const double rounded = round_float(c.self.as_float(), precision);
    if (c.self.is_integer()) return whole(rounded).value_or(c.self);
    return Value::of_float(rounded);
  }
  if (method != "ceil" && method != "floor") c.run.fault("round: the method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = c.self.as_float() * scale;
  return Value::of_float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value length(const Call& c) { return Value::of_int(c.run.length(c.self)); }
Value to_string(const Call& c) { return c.self.is_string() ? c.self : c.run.text(c.self_text()); }
Value to_list(const Call& c) { return c.run.heap.list(c.run.items(c.self)); }

Value items(const Call& c) {
  std::vector<Value> pairs;
  if (!c.self.is_undefined()) {
    if (!c.self.is(Type::Dict)) c.run.fault("items: can only get item pairs from a mapping");
    for (const auto& [key, value] : c.self.dict->entries()) {
      pairs.push_back(c.run.heap.list({key, value}, List::Kind::Tuple));
    }
  }
  return c.run.heap.iterator(std::move(pairs));
}

Value format(const Call& c) {
  if (!c.all.positional.empty() && !c.all.named.empty()) c.run.fault("format: either positional or named arguments");
  if (c.all.named.empty()) {
    const Value values = c.run.heap.list(c.all.positional, List::Kind::Tuple);
    return c.run.text(format_percent(c.run, c.self_text(), values));
  }
  Dict* named = c.run.heap.dict();
  for (const auto& [name, value] : c.all.named) c.run.heap.set(*named, Value(name), value);
  return c.run.text(format_percent(c.run, c.self_text(), Value(named)));
}

Value safe(const Call& c) { return c.run.text(c.self_text(), true); }

Value force_escape(const Call& c) {
  const std::string text = c.self_text();
  c.run.budget.allocate(4 * text.size());  // "&" becomes "&amp;"
  return c.run.text(escape_html(text), true);
}

Value escape(const Call& c) {
  if (c.self.is_string() && c.self.string->markup) return c.self;
  return force_escape(c);
}

// transformers' own tojson: nothing escaped for HTML, characters as they are.
Value to_json(const Call& c) {
  JsonStyle style;
  style.ascii = c.truth(0, false);
  if (c.has(1) && !c.at(1).is(Type::None)) {
    if (c.at(1).is_string()) {
      style.indent = std::string(c.at(1).text());
    } else {
      const int64_t width = c.integer(1, 0);
      if (width > 0) c.run.budget.allocate(static_cast<size_t>(width));
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    }
    style.item = ",";
  }
  if (c.has(2) && !c.at(2).is(Type::None)) {
    const auto separators = c.run.items(c.at(2));
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      c.run.fault("tojson: separators must be two strings");
    }
    style.item = separators[0].text();
    style.key = separators[1].text();
  }
  style.sort_keys = c.truth(3, false);
  std::string out;
  append_json(out, c.self, style, c.run.budget);
  return c.run.text(std::move(out));
}

constexpr Builtin kFilters[] = {
    {"abs", absolute},
    {"attr", attr, "name", 1},
    {"count", length},
    {"d", otherwise, "default_value boolean"},
    {"default", otherwise, "default_value boolean"},
    {"e", escape},
    {"escape", escape},
    {"float", to_float, "default"},
    {"forceescape", force_escape},
    {"format", format, "*"},
    {"int", to_integer, "default base"},
    {"items", items},
    {"length", length},
    {"list", to_list},
    {"round", round, "precision method"},
    {"safe", safe},
    {"string", to_string},
    {"tojson", to_json, "ensure_ascii indent separators sort_keys"},
};

}  // namespace

std::span<const Builtin> value_filters() { return kFilters; }

}  // namespace moiety::jinja
