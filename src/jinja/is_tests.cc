// What can stand behind "is": x is defined, x is divisibleby 3.
#include "jinja/operators.h"
#include "jinja/tables.h"
#include "jinja/unicode.h"

namespace moiety::jinja {
namespace {

Value yes(bool b) { return Value::of_bool(b); }

template <Type type>
Value has_type(const Call& c) {
  return yes(c.self.is(type));
}

template <Operation operation>
Value compares(const Call& c) {
  return yes(compare(c.run, operation, c.self, c.at(0)));
}

Value is_defined(const Call& c) { return yes(!c.self.is_undefined()); }
Value is_number(const Call& c) { return yes(c.self.is_number()); }
Value is_true_itself(const Call& c) { return yes(c.self.is(Type::Bool) && c.self.boolean); }
Value is_false_itself(const Call& c) { return yes(c.self.is(Type::Bool) && !c.self.boolean); }
Value is_iterable(const Call& c) {
  return yes(c.self.is_undefined() || c.self.is_string() || c.self.is(Type::List) || c.self.is(Type::Dict));
}
Value is_sequence(const Call& c) {
  if (c.self.is(Type::List)) return yes(c.self.list->kind != List::Kind::View && c.self.list->kind != List::Kind::Iterator);
  return is_iterable(c);
}
// jinja2's Undefined counts as callable, since calling it says what is undefined.
Value is_callable(const Call& c) {
  return yes(c.self.is_undefined() || (c.self.is(Type::Object) && c.self.object->is_callable()));
}

Value is_divisible(const Call& c) {
  const Value rest = binary(c.run, Operation::Modulo, c.self, c.at(0));
  return yes(rest.is_number() && rest.as_float() == 0);
}

Value has_rest_of_two(const Call& c, int64_t rest) {
  const Value found = binary(c.run, Operation::Modulo, c.self, Value::of_int(2));
  return yes(equal(found, Value::of_int(rest), c.run.budget));
}
Value is_odd(const Call& c) { return has_rest_of_two(c, 1); }
Value is_even(const Call& c) { return has_rest_of_two(c, 0); }

Value one_case(const Call& c, const char* method) {
  const Value text = c.run.text(c.self_text());
  return call(*find_method(text, method), c.run, text, {});
}
Value is_lower_text(const Call& c) { return one_case(c, "islower"); }
Value is_upper_text(const Call& c) { return one_case(c, "isupper"); }

Value is_same(const Call& c) {
  const Value &a = c.self, &b = c.at(0);
  if (a.type != b.type) return yes(false);
  if (a.is(Type::List)) return yes(a.list == b.list);
  if (a.is(Type::Dict)) return yes(a.dict == b.dict);
  return yes(equal(a, b, c.run.budget));
}

Value is_escaped(const Call& c) { return yes(c.self.is_string() && c.self.string->markup); }
Value is_filter(const Call& c) { return yes(c.self.is_string() && find_filter(c.self.text()) != nullptr); }
Value is_test(const Call& c) { return yes(c.self.is_string() && find_test(c.self.text()) != nullptr); }

constexpr Builtin kTests[] = {
    {"!=", compares<Operation::NotEqual>, "other", 1},
    {"<", compares<Operation::Less>, "other", 1},
    {"<=", compares<Operation::LessEqual>, "other", 1},
    {"==", compares<Operation::Equal>, "other", 1},
    {">", compares<Operation::Greater>, "other", 1},
    {">=", compares<Operation::GreaterEqual>, "other", 1},
    {"boolean", has_type<Type::Bool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible, "num", 1},
    {"eq", compares<Operation::Equal>, "other", 1},
    {"equalto", compares<Operation::Equal>, "other", 1},
    {"escaped", is_escaped},
    {"even", is_even},
    {"false", is_false_itself},
    {"filter", is_filter},
    {"float", has_type<Type::Float>},
    {"ge", compares<Operation::GreaterEqual>, "other", 1},
    {"greaterthan", compares<Operation::Greater>, "other", 1},
    {"gt", compares<Operation::Greater>, "other", 1},
    {"in", compares<Operation::In>, "seq", 1},
    {"integer", has_type<Type::Int>},
    {"iterable", is_iterable},
    {"le", compares<Operation::LessEqual>, "other", 1},
    {"lessthan", compares<Operation::Less>, "other", 1},
    {"lower", is_lower_text},
    {"lt", compares<Operation::Less>, "other", 1},
    {"mapping", has_type<Type::Dict>},
    {"ne", compares<Operation::NotEqual>, "other", 1},
    {"none", has_type<Type::None>},
    {"number", is_number},
    {"odd", is_odd},
    {"sameas", is_same, "other", 1},
    {"sequence", is_sequence},
    {"string", has_type<Type::String>},
    {"test", is_test},
    {"true", is_true_itself},
    {"undefined", has_type<Type::Undefined>},
    {"upper", is_upper_text},
};

}  // namespace

std::span<const Builtin> is_tests() { return kTests; }

}  // namespace moiety::jinja
