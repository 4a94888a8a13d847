// Runs a syntax tree over a context. interpreter.cc has the statements, evaluate.cc the expressions, macro_and_loop.cc what
// a template makes and calls itself.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "jinja/run.h"
#include "jinja/syntax.h"

namespace moiety::jinja {

// Variables of a loop's round, a macro's call, a block.
struct Scope {
  Scope* outer = nullptr;
  std::vector<std::pair<int, Value>> variables;
  bool is_captured = false;  // a macro or recursive loop may look into it later

  void set(int name, const Value& value);
  const Value* find(int name) const;  // here, not further out
};

class Interpreter {
 public:
  // All three must outlive it.
  Interpreter(const Syntax& syntax, const Dict& context, Run& run);

  std::string render();

  // For macros and loops.
  std::string call_macro(const MacroDefinition& macro, Scope* closure, const Arguments& arguments);
  std::string run_loop(const Statement& loop, const Value& over, Scope* scope, int depth);
  Run& run() { return run_; }

 private:
  enum class Flow { Next, Break, Continue };

  // Statements append to `out`.
  Flow execute(const Block& block, Scope* scope, std::string& out);
  Flow execute(const Statement& statement, Scope* scope, std::string& out);
  Flow execute_if(const Statement& statement, Scope* scope, std::string& out);
  Flow execute_loop(const Statement& loop, std::vector<Value> items, Scope* scope, int depth, std::string& out);
  void execute_call(const Statement& statement, Scope* scope, std::string& out);
  Flow execute_with(const Statement& statement, Scope* scope, std::string& out);
  std::string text_of(const Block& block, Scope* scope);
  void define_macro(const Statement& statement, Scope* scope);
  void assign(const Target& target, const Value& value, Scope* scope);
  void append(std::string& out, std::string_view text);
  std::vector<Value> loop_items(const Statement& loop, const Value& over, Scope* scope);

  // Expressions
  Value evaluate(const Expression& expression, Scope* scope);
  Value evaluate_deeper(const Expression& expression, Scope* scope);
  Value look_up(const Expression& name, Scope* scope);
  Value evaluate_slice(const Expression& expression, Scope* scope);
  Value evaluate_call(const Expression& expression, Scope* scope);
  Value evaluate_filter(const Expression& expression, Scope* scope);
  Value evaluate_test(const Expression& expression, Scope* scope);
  Value evaluate_compare(const Expression& expression, Scope* scope);
  Value evaluate_concat(const Expression& expression, Scope* scope);
  Value evaluate_dict(const Expression& expression, Scope* scope);
  std::vector<Value> evaluate_parts(const Expression& expression, Scope* scope);
  Arguments evaluate_arguments(const CallArguments& arguments, Scope* scope);

  Scope* open_scope(Scope* outer);
  void close_scope(Scope* scope);
  static void capture(Scope* scope);

  const Syntax& syntax_;
  Run& run_;
  std::vector<const Value*> context_;  // by number of the name; null: not in the context
  std::vector<std::optional<Value>> globals_;
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  Value block_text_;  // what a filter block's first filter is given
};

class Macro : public Object {
 public:
  Macro(Interpreter& interpreter, const MacroDefinition& definition, Scope* closure)
      : interpreter_(interpreter), definition_(definition), closure_(closure) {}
  const char* type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  std::optional<Value> attribute(Run& run, std::string_view name) override;
  Value call(Run& run, const Arguments& arguments) override;

 private:
  Interpreter& interpreter_;
  const MacroDefinition& definition_;
  Scope* closure_;
};

// The variable `loop`.
class Loop : public Object {
 public:
  Loop(Interpreter& interpreter, const Statement& statement, std::vector<Value> items, Scope* scope, int depth)
      : interpreter_(interpreter), statement_(statement), items_(std::move(items)), scope_(scope), depth_(depth) {}
  const char* type_name() const override { return "LoopContext"; }
  bool is_callable() const override { return statement_.is_recursive; }
  std::optional<Value> attribute(Run& run, std::string_view name) override;
  Value call(Run& run, const Arguments& arguments) override;

  size_t size() const { return items_.size(); }
  const Value& at(size_t i) { return items_[at_ = i]; }

 private:
  class Method;

  Interpreter& interpreter_;
  const Statement& statement_;
  std::vector<Value> items_;
  Scope* scope_;
  size_t at_ = 0;
  int depth_;
  std::optional<std::vector<Value>> last_seen_;  // by changed()
};

}  // namespace moiety::jinja
