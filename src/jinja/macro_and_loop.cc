#include <fmt/core.h>

#include "jinja/interpreter.h"

namespace moiety::jinja {

std::optional<Value> Macro::attribute(Run& run, std::string_view name) {
  if (name == "name") return Value(definition_.name);
  if (name == "arguments") {
    std::vector<Value> names;
    for (const auto& parameter : definition_.parameters) names.push_back(Value(parameter.text));
    return run.heap.list(std::move(names), List::Kind::Tuple);
  }
  if (name == "caller") return Value::of_bool(definition_.uses_caller);
  if (name == "catch_varargs") return Value::of_bool(definition_.uses_varargs);
  if (name == "catch_kwargs") return Value::of_bool(definition_.uses_kwargs);
  return std::nullopt;
}

Value Macro::call(Run& run, const Arguments& arguments) {
  return run.text(interpreter_.call_macro(definition_, closure_, arguments));
}

// loop.cycle and loop.changed
class Loop::Method : public Object {
 public:
  Method(Loop& loop, bool is_cycle) : loop_(loop), is_cycle_(is_cycle) {}
  const char* type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Run& run, const Arguments& arguments) override {
    const auto& given = arguments.positional;
    if (is_cycle_) {
      if (given.empty()) run.fault("no items for cycling given");
      return given[loop_.at_ % given.size()];
    }
    bool changed = !loop_.last_seen_ || loop_.last_seen_->size() != given.size();
    for (size_t i = 0; !changed && i < given.size(); ++i) changed = !equal((*loop_.last_seen_)[i], given[i], run.budget);
    if (changed) loop_.last_seen_ = given;
    return Value::of_bool(changed);
  }

 private:
  Loop& loop_;
  bool is_cycle_;
};

std::optional<Value> Loop::attribute(Run& run, std::string_view name) {
  const auto number = [](size_t n) { return Value::of_int(static_cast<int64_t>(n)); };
  const size_t left = items_.size() - at_;
  if (name == "index") return number(at_ + 1);
  if (name == "index0") return number(at_);
  if (name == "first") return Value::of_bool(at_ == 0);
  if (name == "last") return Value::of_bool(left == 1);
  if (name == "length") return number(items_.size());
  if (name == "revindex") return number(left);
  if (name == "revindex0") return number(left - 1);
  if (name == "depth") return Value::of_int(depth_ + 1);
  if (name == "depth0") return Value::of_int(depth_);
  if (name == "previtem") return at_ > 0 ? items_[at_ - 1] : Value::undefined(run.text("loop.previtem").string);
  if (name == "nextitem") return left > 1 ? items_[at_ + 1] : Value::undefined(run.text("loop.nextitem").string);
  if (name == "cycle") return Value(run.heap.object<Method>(*this, true));
  if (name == "changed") return Value(run.heap.object<Method>(*this, false));
  return std::nullopt;
}

Value Loop::call(Run& run, const Arguments& arguments) {
  if (arguments.positional.size() != 1) run.fault("loop() wants what to loop over");
  return run.text(interpreter_.run_loop(statement_, arguments.positional[0], scope_, depth_ + 1));
}

std::string Interpreter::call_macro(const MacroDefinition& macro, Scope* closure, const Arguments& arguments) {
  Scope* scope = open_scope(closure);
  const auto& positional = arguments.positional;
  const auto& parameters = macro.parameters;
  const std::string& name = macro.name->text;
  std::vector<const Value*> given(parameters.size());
  for (size_t i = 0; i < std::min(positional.size(), given.size()); ++i) given[i] = &positional[i];

  if (positional.size() > parameters.size() && !macro.uses_varargs) {
    run_.fault(fmt::format("macro '{}' takes not more than {} argument(s)", name, parameters.size()));
  }
  const Value* caller = nullptr;
  Dict* others = macro.uses_kwargs ? run_.heap.dict() : nullptr;
  for (const auto& [key, value] : arguments.named) {
    size_t i = 0;
    while (i < parameters.size() && parameters[i].text->text != key->text) ++i;
    if (i < parameters.size()) {
      if (given[i] != nullptr) run_.fault(fmt::format("macro '{}' got multiple values for argument '{}'", name, key->text));
      given[i] = &value;
    } else if (key->text == "caller" && macro.uses_caller) {
      caller = &value;
    } else if (others != nullptr) {
      run_.heap.set(*others, Value(key), value);
    } else {
      run_.fault(fmt::format("macro '{}' takes no keyword argument '{}'", name, key->text));
    }
  }

  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& parameter = parameters[i];
    Value value = Value::undefined(parameter.text);
    if (given[i] != nullptr) {
      value = *given[i];
    } else if (parameter.otherwise != nullptr) {
      value = evaluate(*parameter.otherwise, scope);
    }
    scope->set(parameter.name, value);
  }
  if (macro.uses_caller && scope->find(macro.caller) == nullptr) {
    scope->set(macro.caller, caller != nullptr ? *caller : Value::undefined(syntax_.names[static_cast<size_t>(macro.caller)]));
  }
  if (macro.uses_varargs) {
    const size_t taken = std::min(positional.size(), parameters.size());
    scope->set(macro.varargs, run_.heap.list({positional.begin() + static_cast<std::ptrdiff_t>(taken), positional.end()},
                                             List::Kind::Tuple));
  }
  if (others != nullptr) scope->set(macro.kwargs, Value(others));

  std::string out;
  execute(macro.body, scope, out);
  close_scope(scope);
  return out;
}

std::string Interpreter::run_loop(const Statement& loop, const Value& over, Scope* scope, int depth) {
  std::string out;
  execute_loop(loop, loop_items(loop, over, scope), scope, depth, out);
  return out;
}

}  // namespace moiety::jinja
