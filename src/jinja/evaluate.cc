#include <fmt/core.h>

#include "jinja/functions.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"

namespace moiety::jinja {

using Kind = Expression::Kind;

Value Interpreter::evaluate(const Expression& e, Scope* scope) {
  run_.budget.step();
  run_.budget.line = e.line;
  if (e.kind == Kind::Constant) return e.value;
  if (e.kind == Kind::Name) return look_up(e, scope);
  const Deeper deeper(run_.budget);
  return evaluate_deeper(e, scope);
}

Value Interpreter::evaluate_deeper(const Expression& e, Scope* scope) {
  const auto part = [&](size_t i) { return evaluate(*e.parts[i], scope); };
  switch (e.kind) {
    case Kind::List:
      return run_.heap.list(evaluate_parts(e, scope));
    case Kind::Tuple:
      return run_.heap.list(evaluate_parts(e, scope), List::Kind::Tuple);
    case Kind::Dict:
      return evaluate_dict(e, scope);
    case Kind::Attribute:
      return attribute(run_, part(0), e.text);
    case Kind::Subscript: {
      const Value object = part(0);
      return subscript(run_, object, part(1));
    }
    case Kind::Slice:
      return evaluate_slice(e, scope);
    case Kind::Call:
      return evaluate_call(e, scope);
    case Kind::Filter:
      return evaluate_filter(e, scope);
    case Kind::Test:
      return evaluate_test(e, scope);
    case Kind::Not:
      return Value::of_bool(!is_true(part(0)));
    case Kind::Negate:
      return negate(run_, part(0));
    case Kind::Plus: {
      const Value value = part(0);
      if (!value.is_number()) run_.fault(fmt::format("bad operand type for unary +: '{}'", type_name(value)));
      return value.is(Type::Bool) ? Value::of_int(value.as_integer()) : value;
    }
    case Kind::Binary: {
      const Value left = part(0), right = part(1);
      run_.budget.line = e.line;
      return binary(run_, e.operations[0], left, right);
    }
    case Kind::Compare:
      return evaluate_compare(e, scope);
    case Kind::And: {
      const Value left = part(0);
      return is_true(left) ? part(1) : left;
    }
    case Kind::Or: {
      const Value left = part(0);
      return is_true(left) ? left : part(1);
    }
    case Kind::Concat:
      return evaluate_concat(e, scope);
    case Kind::Conditional:
      if (is_true(part(1))) return part(0);
      return e.parts[2] != nullptr ? part(2) : Value();
    case Kind::Constant:
    case Kind::Name:
      break;  // evaluate() has them
  }
  return {};
}

Value Interpreter::look_up(const Expression& e, Scope* scope) {
  for (; scope != nullptr; scope = scope->outer) {
    if (const Value* found = scope->find(e.name)) return *found;
  }
  const auto number = static_cast<size_t>(e.name);
  if (context_[number] != nullptr) return *context_[number];
  if (!globals_[number]) globals_[number] = global(run_, e.text->text).value_or(Value::undefined(e.text));
  return *globals_[number];
}

std::vector<Value> Interpreter::evaluate_parts(const Expression& e, Scope* scope) {
  std::vector<Value> values;
  values.reserve(e.parts.size());
  for (const Expression* part : e.parts) values.push_back(evaluate(*part, scope));
  return values;
}

Value Interpreter::evaluate_concat(const Expression& e, Scope* scope) { return concatenate(run_, evaluate_parts(e, scope)); }

Value Interpreter::evaluate_dict(const Expression& e, Scope* scope) {
  Dict* dict = run_.heap.dict();
  for (size_t i = 0; i < e.parts.size(); i += 2) {
    const Value key = evaluate(*e.parts[i], scope);
    run_.heap.set(*dict, key, evaluate(*e.parts[i + 1], scope));
  }
  return Value(dict);
}

Value Interpreter::evaluate_slice(const Expression& e, Scope* scope) {
  Value parts[4] = {{}, Value::none(), Value::none(), Value::none()};
  for (size_t i = 0; i < 4; ++i) {
    if (e.parts[i] != nullptr) parts[i] = evaluate(*e.parts[i], scope);
  }
  return slice(run_, parts[0], parts[1], parts[2], parts[3]);
}

Value Interpreter::evaluate_compare(const Expression& e, Scope* scope) {
  Value left = evaluate(*e.parts[0], scope);
  for (size_t i = 0; i < e.operations.size(); ++i) {
    const Value right = evaluate(*e.parts[i + 1], scope);
    if (!compare(run_, e.operations[i], left, right)) return Value::of_bool(false);
    left = right;
  }
  return Value::of_bool(true);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& given, Scope* scope) {
  Arguments arguments;
  for (const Expression* e : given.positional) arguments.positional.push_back(evaluate(*e, scope));
  for (const auto& [name, e] : given.named) arguments.named.emplace_back(name, evaluate(*e, scope));
  if (given.more_positional != nullptr) {
    const auto more = run_.items(evaluate(*given.more_positional, scope));
    run_.budget.allocate(more.size() * sizeof(Value));
    arguments.positional.insert(arguments.positional.end(), more.begin(), more.end());
  }
  if (given.more_named != nullptr) {
    const Value more = evaluate(*given.more_named, scope);
    if (!more.is(Type::Dict)) run_.fault(fmt::format("argument after ** must be a mapping, not {}", type_name(more)));
    for (const auto& [name, value] : more.dict->entries()) {
      if (!name.is_string()) run_.fault("keywords must be strings");
      run_.budget.allocate(sizeof(Value) * 2);
      arguments.named.emplace_back(name.string, value);
    }
  }
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& e, Scope* scope) {
  const Expression& called = *e.parts[0];
  if (called.kind == Kind::Attribute) {
    // object.method(…): without an object for the method itself
    const Value object = evaluate(*called.parts[0], scope);
    const Builtin* method = object.is(Type::Object) ? nullptr : find_method(object, called.text->text);
    if (method != nullptr) {
      const Arguments arguments = evaluate_arguments(e.arguments, scope);
      run_.budget.line = e.line;
      return call(*method, run_, object, arguments);
    }
    const Value function = attribute(run_, object, called.text);
    const Arguments arguments = evaluate_arguments(e.arguments, scope);
    run_.budget.line = e.line;
    return run_.call(function, arguments);
  }
  const Value function = evaluate(called, scope);
  const Arguments arguments = evaluate_arguments(e.arguments, scope);
  run_.budget.line = e.line;
  return run_.call(function, arguments);
}

Value Interpreter::evaluate_filter(const Expression& e, Scope* scope) {
  const Value input = e.parts[0] == nullptr ? block_text_ : evaluate(*e.parts[0], scope);
  const Arguments arguments = evaluate_arguments(e.arguments, scope);
  run_.budget.line = e.line;
  if (e.builtin == nullptr) run_.fault(fmt::format("there is no filter named '{}'", e.text->text.substr(0, 60)));
  return call(*e.builtin, run_, input, arguments);
}

Value Interpreter::evaluate_test(const Expression& e, Scope* scope) {
  const Value input = evaluate(*e.parts[0], scope);
  const Arguments arguments = evaluate_arguments(e.arguments, scope);
  run_.budget.line = e.line;
  if (e.builtin == nullptr) run_.fault(fmt::format("there is no test named '{}'", e.text->text.substr(0, 60)));
  return call(*e.builtin, run_, input, arguments);
}

}  // namespace moiety::jinja
