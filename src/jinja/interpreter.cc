#include "jinja/interpreter.h"

#include <fmt/core.h>

#include "jinja/functions.h"

namespace moiety::jinja {

using Kind = Statement::Kind;

void Scope::set(int name, const Value& value) {
  for (auto& variable : variables) {
    if (variable.first == name) {
      variable.second = value;
      return;
    }
  }
  variables.emplace_back(name, value);
}

const Value* Scope::find(int name) const {
  for (const auto& variable : variables) {
    if (variable.first == name) return &variable.second;
  }
  return nullptr;
}

Interpreter::Interpreter(const Syntax& syntax, const Dict& context, Run& run)
    : syntax_(syntax), run_(run), context_(syntax.names.size()), globals_(syntax.names.size()) {
  for (size_t i = 0; i < context_.size(); ++i) context_[i] = context.find(syntax.names[i]->text);
}

std::string Interpreter::render() {
  std::string out;
  execute(syntax_.root, open_scope(nullptr), out);
  return out;
}

Scope* Interpreter::open_scope(Scope* outer) {
  Scope* scope;
  if (free_scopes_.empty()) {
    run_.budget.allocate(sizeof(Scope) + 4 * sizeof(Value));
    scope = &scopes_.emplace_back();
  } else {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  }
  scope->outer = outer;
  return scope;
}

void Interpreter::close_scope(Scope* scope) {
  if (scope->is_captured) return;
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

void Interpreter::capture(Scope* scope) {
  for (; scope != nullptr && !scope->is_captured; scope = scope->outer) scope->is_captured = true;
}

void Interpreter::append(std::string& out, std::string_view text) {
  run_.budget.allocate(text.size());
  out += text;
}

Interpreter::Flow Interpreter::execute(const Block& block, Scope* scope, std::string& out) {
  const Deeper deeper(run_.budget);
  for (const Statement* statement : block) {
    run_.budget.step();
    run_.budget.line = statement->line;
    const Flow flow = execute(*statement, scope, out);
    if (flow != Flow::Next) return flow;
  }
  return Flow::Next;
}

Interpreter::Flow Interpreter::execute(const Statement& s, Scope* scope, std::string& out) {
  switch (s.kind) {
    case Kind::Text:
      append(out, s.text);
      break;
    case Kind::Print:
      append_str(out, evaluate(*s.expression, scope), run_.budget);
      break;
    case Kind::If:
      return execute_if(s, scope, out);
    case Kind::For:
      execute_loop(s, loop_items(s, evaluate(*s.expression, scope), scope), scope, 0, out);
      break;
    case Kind::Set:
      assign(s.target, evaluate(*s.expression, scope), scope);
      break;
    case Kind::SetBlock: {
      Value text = run_.text(text_of(s.body, scope));
      if (s.expression != nullptr) {
        block_text_ = text;
        text = evaluate(*s.expression, scope);
      }
      assign(s.target, text, scope);
      break;
    }
    case Kind::Macro:
      define_macro(s, scope);
      break;
    case Kind::Call:
      execute_call(s, scope, out);
      break;
    case Kind::Filter: {
      block_text_ = run_.text(text_of(s.body, scope));
      append_str(out, evaluate(*s.expression, scope), run_.budget);
      break;
    }
    case Kind::With:
      return execute_with(s, scope, out);
    case Kind::Scope: {
      Scope* inner = open_scope(scope);
      const Flow flow = execute(s.body, inner, out);
      close_scope(inner);
      return flow;
    }
    case Kind::Break:
      return Flow::Break;
    case Kind::Continue:
      return Flow::Continue;
  }
  return Flow::Next;
}

Interpreter::Flow Interpreter::execute_if(const Statement& s, Scope* scope, std::string& out) {
  for (const Branch& branch : s.branches) {
    if (branch.condition == nullptr || is_true(evaluate(*branch.condition, scope))) {
      return execute(branch.body, scope, out);
    }
  }
  return Flow::Next;
}

// What the loop visits: everything, or what passes its condition.
std::vector<Value> Interpreter::loop_items(const Statement& loop, const Value& over, Scope* scope) {
  std::vector<Value> items = run_.items(over);
  run_.budget.allocate(items.size() * sizeof(Value));
  if (loop.condition == nullptr) return items;
  std::vector<Value> kept;
  for (const Value& item : items) {
    Scope* inner = open_scope(scope);
    assign(loop.target, item, inner);
    if (is_true(evaluate(*loop.condition, inner))) kept.push_back(item);
    close_scope(inner);
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_loop(const Statement& s, std::vector<Value> items, Scope* scope, int depth,
                                            std::string& out) {
  if (s.is_recursive) capture(scope);
  Loop* loop = run_.heap.object<Loop>(*this, s, std::move(items), scope, depth);
  for (size_t i = 0; i < loop->size(); ++i) {
    Scope* round = open_scope(scope);
    round->set(syntax_.loop_name, Value(loop));
    assign(s.target, loop->at(i), round);
    const Flow flow = execute(s.body, round, out);
    close_scope(round);
    if (flow == Flow::Break) break;
  }
  return loop->size() == 0 ? execute(s.otherwise, scope, out) : Flow::Next;
}

void Interpreter::define_macro(const Statement& s, Scope* scope) {
  capture(scope);
  scope->set(s.target.name, Value(run_.heap.object<Macro>(*this, s.macro, scope)));
}

void Interpreter::execute_call(const Statement& s, Scope* scope, std::string& out) {
  capture(scope);
  const Value caller(run_.heap.object<Macro>(*this, s.macro, scope));
  Arguments arguments = evaluate_arguments(s.expression->arguments, scope);
  arguments.named.emplace_back(s.macro.name, caller);
  const Value called = evaluate(*s.expression->parts[0], scope);
  append_str(out, run_.call(called, arguments), run_.budget);
}

Interpreter::Flow Interpreter::execute_with(const Statement& s, Scope* scope, std::string& out) {
  Scope* inner = open_scope(scope);
  for (const auto& [target, expression] : s.assignments) assign(target, evaluate(*expression, scope), inner);
  const Flow flow = execute(s.body, inner, out);
  close_scope(inner);
  return flow;
}

std::string Interpreter::text_of(const Block& block, Scope* scope) {
  std::string text;
  Scope* inner = open_scope(scope);
  execute(block, inner, text);
  close_scope(inner);
  return text;
}

void Interpreter::assign(const Target& target, const Value& value, Scope* scope) {
  switch (target.kind) {
    case Target::Kind::Name:
      scope->set(target.name, value);
      break;
    case Target::Kind::Attribute: {
      const Value* found = nullptr;
      for (const Scope* s = scope; s != nullptr && found == nullptr; s = s->outer) found = s->find(target.name);
      auto* space = found != nullptr && found->is(Type::Object) ? dynamic_cast<Namespace*>(found->object) : nullptr;
      if (space == nullptr) run_.fault("cannot assign an attribute of what is no namespace");
      run_.heap.set(*space->values, Value(target.attribute), value);
      break;
    }
    case Target::Kind::Tuple: {
      if (value.is_undefined()) run_.fault(why_undefined(value));
      const std::vector<Value> items = run_.items(value);
      if (items.size() != target.parts.size()) {
        run_.fault(fmt::format("cannot unpack {} values into {}", items.size(), target.parts.size()));
      }
      for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
      break;
    }
  }
}

}  // namespace moiety::jinja
