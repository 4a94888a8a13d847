#include "jinja/run.h"

#include <fmt/core.h>

#include "jinja/functions.h"
#include "jinja/unicode.h"

namespace moiety::jinja {

Value Run::call(const Value& function, const Arguments& arguments) {
  if (function.is_undefined()) fault(why_undefined(function));
  if (!function.is(Type::Object) || !function.object->is_callable()) {
    fault(fmt::format("'{}' object is not callable", type_name(function)));
  }
  const Deeper deeper(budget);
  budget.step();
  return function.object->call(*this, arguments);
}

Value Run::filter(std::string_view name, const Value& input, const Arguments& arguments) {
  const Builtin* found = find_filter(name);
  if (found == nullptr) fault(fmt::format("there is no filter named '{}'", name.substr(0, 60)));
  const Deeper deeper(budget);
  budget.step();
  return jinja::call(*found, *this, input, arguments);
}

bool Run::test(std::string_view name, const Value& input, const Arguments& arguments) {
  const Builtin* found = find_test(name);
  if (found == nullptr) fault(fmt::format("there is no test named '{}'", name.substr(0, 60)));
  const Deeper deeper(budget);
  budget.step();
  return is_true(jinja::call(*found, *this, input, arguments));
}

std::string Run::str(const Value& value) {
  std::string text;
  append_str(text, value, budget);
  return text;
}

std::string Run::repr(const Value& value) {
  std::string text;
  append_repr(text, value, budget);
  return text;
}

std::vector<Value> Run::items(const Value& value) {
  std::vector<Value> out;
  switch (value.type) {
    case Type::Undefined:
      return out;
    case Type::List:
      budget.step(value.list->items.size());
      if (value.list->kind == List::Kind::Iterator) {
        return std::exchange(value.list->used, true) ? out : std::exchange(value.list->items, {});
      }
      return value.list->items;
    case Type::Dict:
      budget.step(value.dict->entries().size());
      for (const auto& entry : value.dict->entries()) out.push_back(entry.first);
      return out;
    case Type::String:
      for (size_t at = 0; at < value.text().size();) {
        const size_t bytes = char_at(value.text(), at).bytes;
        out.push_back(text(std::string(value.text().substr(at, bytes)), value.string->markup));
        at += bytes;
      }
      return out;
    default:
      fault(fmt::format("'{}' object is not iterable", type_name(value)));
  }
}

int64_t Run::length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) return static_cast<int64_t>(value.string->chars);
  if (value.is(Type::Dict)) return static_cast<int64_t>(value.dict->entries().size());
  if (value.is(Type::List) && value.list->kind != List::Kind::Iterator) {
    return static_cast<int64_t>(value.list->items.size());
  }
  fault(fmt::format("object of type '{}' has no len()", type_name(value)));
}

}  // namespace moiety::jinja
