#include "jinja/operators.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "jinja/functions.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

constexpr const char* kSigns[] = {"+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};

[[noreturn]] void refuse(Run& run, Operation operation, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) run.fault(why_undefined(*v));
  }
  run.fault(fmt::format("unsupported operand types for {}: '{}' and '{}'", kSigns[static_cast<int>(operation)],
                        type_name(a), type_name(b)));
}

Value whole(Run& run, bool overflow, int64_t result) {
  if (overflow) run.fault("an integer does not fit in 64 bits");
  return Value::of_int(result);
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

Value power(Run& run, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) run.fault("0 cannot be raised to a negative power");
    return Value::of_float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  bool overflow = false;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) overflow |= __builtin_mul_overflow(result, base, &result);
    if (exponent > 1) {
      // Overflow of a square matters only if it is used, and with an exponent above 1 it is.
      overflow |= __builtin_mul_overflow(base, base, &base);
    }
    if (overflow) break;
  }
  return whole(run, overflow, result);
}

Value integers(Run& run, Operation operation, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (operation) {
    case Operation::Add:
      overflow = __builtin_add_overflow(a, b, &result);
      return whole(run, overflow, result);
    case Operation::Subtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      return whole(run, overflow, result);
    case Operation::Multiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      return whole(run, overflow, result);
    case Operation::Power:
      return power(run, a, b);
    default:
      break;
  }
  if (b == 0) run.fault("division by zero");
  if (operation == Operation::Divide) return Value::of_float(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) return operation == Operation::Modulo ? Value::of_int(0) : whole(run, a == INT64_MIN, a == INT64_MIN ? 0 : -a);
  if (operation == Operation::FloorDivide) return Value::of_int(floor_divide(a, b));
  return Value::of_int(a - floor_divide(a, b) * b);
}

double float_modulo(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0 && (r < 0) != (b < 0)) r += b;
  return r == 0 ? std::copysign(0.0, b) : r;
}

double float_floor_divide(double a, double b) {
  const double mod = float_modulo(a, b), div = (a - mod) / b;
  if (div == 0) return std::copysign(0.0, a / b);
  const double down = std::floor(div);
  return div - down > 0.5 ? down + 1 : down;
}

Value floats(Run& run, Operation operation, double a, double b) {
  switch (operation) {
    case Operation::Add:
      return Value::of_float(a + b);
    case Operation::Subtract:
      return Value::of_float(a - b);
    case Operation::Multiply:
      return Value::of_float(a * b);
    case Operation::Power:
      if (a == 0 && b < 0) run.fault("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(b) && b != std::floor(b)) run.fault("complex numbers are not supported");
      if (std::isfinite(a) && std::isfinite(b) && !std::isfinite(std::pow(a, b))) run.fault("a power is too large");
      return Value::of_float(std::pow(a, b));
    default:
      break;
  }
  if (b == 0) run.fault("division by zero");
  if (operation == Operation::Divide) return Value::of_float(a / b);
  return Value::of_float(operation == Operation::Modulo ? float_modulo(a, b) : float_floor_divide(a, b));
}

Value add_strings(Run& run, const Value& a, const Value& b) {
  run.budget.allocate(a.text().size() + b.text().size());
  const bool markup = a.string->markup || b.string->markup;
  std::string sum = markup && !a.string->markup ? escape_html(a.text()) : std::string(a.text());
  sum += markup && !b.string->markup ? escape_html(b.text()) : std::string(b.text());
  return run.text(std::move(sum), markup);
}

bool is_sequence(const Value& v) { return is_list(v, List::Kind::List) || is_list(v, List::Kind::Tuple); }

Value add_lists(Run& run, const Value& a, const Value& b) {
  std::vector<Value> items;
  items.reserve(a.list->items.size() + b.list->items.size());
  items.insert(items.end(), a.list->items.begin(), a.list->items.end());
  items.insert(items.end(), b.list->items.begin(), b.list->items.end());
  return run.heap.list(std::move(items), a.list->kind);
}

Value repeat(Run& run, const Value& value, int64_t times) {
  const size_t count = times < 0 ? 0 : static_cast<size_t>(times);
  const size_t size = value.is_string() ? value.text().size() : value.list->items.size() * sizeof(Value);
  size_t total = 0;
  if (__builtin_mul_overflow(size, count, &total)) total = SIZE_MAX;
  run.budget.allocate(total);
  if (value.is_string()) {
    std::string text;
    text.reserve(total);
    for (size_t i = 0; i < (size == 0 ? 0 : count); ++i) text += value.text();
    return run.text(std::move(text), value.string->markup);
  }
  std::vector<Value> items;
  for (size_t i = 0; i < (size == 0 ? 0 : count); ++i) {
    items.insert(items.end(), value.list->items.begin(), value.list->items.end());
  }
  return run.heap.list(std::move(items), value.list->kind);
}

// A place in a sequence of `size`, counted from the end if negative; nothing if there is none.
std::optional<size_t> place(int64_t index, size_t size) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || index >= static_cast<int64_t>(size)) return std::nullopt;
  return static_cast<size_t>(index);
}

Value char_of(Run& run, const String& string, size_t i) {
  run.budget.scan(string.is_ascii() ? 0 : string.text.size());
  const size_t at = byte_of(string.text, i, string.is_ascii());
  return run.text(string.text.substr(at, char_at(string.text, at).bytes), string.markup);
}

// An element, or nothing if the object has no such one.
std::optional<Value> element(Run& run, const Value& object, const Value& key) {
  if (object.is(Type::Dict)) {
    const bool has_hash = !(key.is(Type::Dict) || (key.is(Type::List) && key.list->kind != List::Kind::Tuple));
    const Value* found = has_hash ? object.dict->find(key, run.budget) : nullptr;
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!key.is_integer()) return std::nullopt;
  if (object.is_string()) {
    const auto i = place(key.as_integer(), object.string->chars);
    return i ? std::optional(char_of(run, *object.string, *i)) : std::nullopt;
  }
  const bool indexed = is_sequence(object) || is_list(object, List::Kind::Range);
  if (!indexed) return std::nullopt;
  const auto i = place(key.as_integer(), object.list->items.size());
  return i ? std::optional(object.list->items[*i]) : std::nullopt;
}

std::optional<Value> attribute_of(Run& run, const Value& object, std::string_view name) {
  if (object.is(Type::Object)) return object.object->attribute(run, name);
  if (is_list(object, List::Kind::Tuple) && object.list->name == kGroupTuple) {
    if (name == "grouper") return object.list->items[0];
    if (name == "list") return object.list->items[1];
  }
  const Builtin* method = find_method(object, name);
  if (method == nullptr) return std::nullopt;
  return Value(run.heap.object<Method>(object, *method));
}

}  // namespace

Value binary(Run& run, Operation operation, const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return integers(run, operation, a.as_integer(), b.as_integer());
  if (a.is_number() && b.is_number()) return floats(run, operation, a.as_float(), b.as_float());
  if (operation == Operation::Add) {
    if (a.is_string() && b.is_string()) return add_strings(run, a, b);
    if (is_sequence(a) && is_sequence(b) && a.list->kind == b.list->kind) return add_lists(run, a, b);
  }
  if (operation == Operation::Multiply) {
    if ((a.is_string() || is_sequence(a)) && b.is_integer()) return repeat(run, a, b.as_integer());
    if (a.is_integer() && (b.is_string() || is_sequence(b))) return repeat(run, b, a.as_integer());
  }
  if (operation == Operation::Modulo && a.is_string()) return run.text(format_percent(run, a.text(), b));
  refuse(run, operation, a, b);
}

bool compare(Run& run, Operation operation, const Value& a, const Value& b) {
  switch (operation) {
    case Operation::Equal:
      return equal(a, b, run.budget);
    case Operation::NotEqual:
      return !equal(a, b, run.budget);
    case Operation::In:
      return contains(run, b, a);
    case Operation::NotIn:
      return !contains(run, b, a);
    default:
      break;
  }
  if (a.is_number() && b.is_number() && !(a.is_integer() && b.is_integer())) {  // a NaN has no order
    const double x = a.as_float(), y = b.as_float();
    if (std::isnan(x) || std::isnan(y)) return false;
  }
  switch (operation) {
    case Operation::Less:
      return less(a, b, run.budget);
    case Operation::Greater:
      return less(b, a, run.budget);
    case Operation::LessEqual:
      return !less(b, a, run.budget);
    case Operation::GreaterEqual:
      return !less(a, b, run.budget);
    default:
      refuse(run, operation, a, b);
  }
}

bool contains(Run& run, const Value& container, const Value& item) {
  switch (container.type) {
    case Type::Undefined:
      return false;
    case Type::String:
      if (!item.is_string()) {
        run.fault(item.is_undefined() ? why_undefined(item)
                                      : fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
      }
      run.budget.scan(container.text().size());
      return find_text(container.text(), item.text()) != std::string_view::npos;
    case Type::Dict:
      return container.dict->find(item, run.budget) != nullptr;
    case Type::List:
      for (const Value& other : run.items(container)) {
        if (equal(other, item, run.budget)) return true;
      }
      return false;
    default:
      run.fault(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  }
}

Value negate(Run& run, const Value& value) {
  if (value.is(Type::Float)) return Value::of_float(-value.number);
  if (value.is_integer()) return integers(run, Operation::Subtract, 0, value.as_integer());
  if (value.is_undefined()) run.fault(why_undefined(value));
  run.fault(fmt::format("bad operand type for unary -: '{}'", type_name(value)));
}

Value attribute(Run& run, const Value& object, const String* name) {
  if (object.is_undefined()) run.fault(why_undefined(object));
  if (auto found = attribute_of(run, object, name->text)) return *found;
  if (object.is(Type::Dict)) {
    if (const Value* found = object.dict->find(name->text)) return *found;
  }
  return Value::undefined(name, type_name(object));
}

Value subscript(Run& run, const Value& object, const Value& key) {
  if (object.is_undefined()) run.fault(why_undefined(object));
  if (const auto found = element(run, object, key)) return *found;
  if (!key.is_string()) return Value::undefined(nullptr, type_name(object));
  if (const auto found = attribute_of(run, object, key.text())) return *found;
  return Value::undefined(key.string, type_name(object));
}

Value slice(Run& run, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) run.fault(why_undefined(object));
  const bool sliced = object.is_string() || is_sequence(object) || is_list(object, List::Kind::Range);
  if (!sliced) run.fault(fmt::format("'{}' object cannot be sliced", type_name(object)));
  for (const Value* v : {&start, &stop, &step}) {
    if (v->is_undefined()) run.fault(why_undefined(*v));
    if (!v->is(Type::None) && !v->is_integer()) run.fault("slice indices must be integers or None");
  }

  const int64_t by = step.is_integer() ? step.as_integer() : 1;
  if (by == 0) run.fault("slice step cannot be zero");
  const int64_t size = object.is_string() ? static_cast<int64_t>(object.string->chars) : static_cast<int64_t>(object.list->items.size());
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (!v.is_integer()) return otherwise;
    int64_t i = v.as_integer();
    if (i < 0) i = i < -size ? -1 : i + size;
    const int64_t low = by < 0 ? -1 : 0, high = by < 0 ? size - 1 : size;
    return std::clamp(i, low, std::max(low, high));
  };
  const int64_t from = bound(start, by < 0 ? size - 1 : 0), to = bound(stop, by < 0 ? -1 : size);

  if (object.is_string() && by == 1) {
    if (from >= to) return run.text("", object.string->markup);
    run.budget.scan(object.text().size());
    const std::string_view text = object.text();
    const size_t first = byte_of(text, static_cast<size_t>(from), object.string->is_ascii());
    const size_t bytes = byte_of(text.substr(first), static_cast<size_t>(to - from), object.string->is_ascii());
    return run.text(std::string(text.substr(first, bytes)), object.string->markup);
  }
  const std::vector<Value> items = run.items(object);
  std::vector<Value> picked;
  // The distance to the end is compared, so that an absurd step does not overflow.
  for (int64_t i = from; by > 0 ? i < to : i > to;) {
    picked.push_back(items[static_cast<size_t>(i)]);
    if (by > 0 ? by >= to - i : by <= to - i) break;
    i += by;
  }
  run.budget.step(picked.size());
  if (!object.is_string()) return run.heap.list(std::move(picked), object.list->kind);
  return concatenate(run, picked);
}

Value concatenate(Run& run, const std::vector<Value>& values) {
  std::string text;
  for (const Value& value : values) append_str(text, value, run.budget);
  return run.text(std::move(text));
}

}  // namespace moiety::jinja
