// The syntax tree of a template. Nodes lie in a Syntax and point to each other.
#pragma once

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "jinja/value.h"

namespace moiety::jinja {

struct Builtin;  // functions.h
struct Expression;
struct Statement;

struct CallArguments {
  std::vector<const Expression*> positional;
  std::vector<std::pair<const String*, const Expression*>> named;
  const Expression* more_positional = nullptr;  // *args
  const Expression* more_named = nullptr;       // **kwargs
};

enum class Operation { Add, Subtract, Multiply, Divide, FloorDivide, Modulo, Power, Equal, NotEqual, Less, LessEqual,
                       Greater, GreaterEqual, In, NotIn };

struct Expression {
  enum class Kind {
    Constant,     // value
    Name,         // name, text
    List,         // parts
    Tuple,        // parts
    Dict,         // parts: key, value, key, value, …
    Attribute,    // parts[0].text
    Subscript,    // parts[0][parts[1]]
    Slice,        // parts[0][parts[1]:parts[2]:parts[3]], the last three may be null
    Call,         // parts[0](arguments)
    Filter,       // parts[0] | filter(arguments); parts[0] is null in a filter block
    Test,         // parts[0] is test(arguments)
    Not,          // parts[0]
    Negate,       // - parts[0]
    Plus,         // + parts[0]
    Binary,       // parts[0] operations[0] parts[1]
    Compare,      // parts[0] operations[0] parts[1] operations[1] parts[2] …
    And,          // parts[0] and parts[1]
    Or,           // parts[0] or parts[1]
    Concat,       // parts, as text
    Conditional,  // parts[0] if parts[1] else parts[2], which may be null
  };
  Kind kind;
  int line;
  Value value;
  int name = -1;                 // number of a variable's name
  const String* text = nullptr;  // name of a variable, attribute, filter or test
  std::vector<const Expression*> parts;
  std::vector<Operation> operations;
  CallArguments arguments;
  const Builtin* builtin = nullptr;  // the filter or test; null: there is none of this name
};

// What a value is put into: x, x.y, or (x, y.z, …).
struct Target {
  enum class Kind { Name, Attribute, Tuple };
  Kind kind = Kind::Name;
  int name = -1;
  const String* attribute = nullptr;
  std::vector<Target> parts;
};

using Block = std::vector<const Statement*>;

struct MacroDefinition {
  const String* name = nullptr;
  struct Parameter {
    int name;
    const String* text;
    const Expression* otherwise;  // null: undefined
  };
  std::vector<Parameter> parameters;
  Block body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
  int caller = -1, varargs = -1, kwargs = -1;  // numbers of these names
};

struct Branch {
  const Expression* condition;  // null: else
  Block body;
};

struct Statement {
  enum class Kind {
    Text,      // text
    Print,     // expression
    If,        // branches
    For,       // target in expression, condition, body, otherwise, is_recursive
    Set,       // target = expression
    SetBlock,  // target = body, through expression (a filter chain) if there is one
    Macro,     // target.name = macro
    Call,      // expression (a call), macro is its caller()
    Filter,    // body through expression
    With,      // targets = expressions, body
    Scope,     // body, in a scope of its own
    Break,
    Continue,
  };
  Kind kind;
  int line;
  std::string text;
  Target target;
  const Expression* expression = nullptr;
  const Expression* condition = nullptr;
  std::vector<Branch> branches;
  std::vector<std::pair<Target, const Expression*>> assignments;
  Block body, otherwise;
  MacroDefinition macro;
  bool is_recursive = false;
};

struct Syntax {
  Block root;
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  std::deque<String> strings;
  std::vector<const String*> names;  // of variables, by number
  std::unordered_map<std::string_view, int> name_numbers;
  int loop_name = -1;  // number of "loop"

  const String* string(std::string text) { return &strings.emplace_back(std::move(text)); }
  int name(const std::string& text) {
    if (const auto found = name_numbers.find(text); found != name_numbers.end()) return found->second;
    names.push_back(string(text));
    name_numbers.emplace(names.back()->text, static_cast<int>(names.size()) - 1);
    return static_cast<int>(names.size()) - 1;
  }
};

}  // namespace moiety::jinja
