// Tokens to a syntax tree. parser.cc has the statements, parse_expression.cc the expressions.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "jinja/lexer.h"
#include "jinja/syntax.h"

namespace moiety::jinja {

// Throws Fault(Syntax).
void parse(std::string_view source, Syntax& syntax);

class Parser {
 public:
  Parser(std::vector<Token> tokens, Syntax& syntax) : tokens_(std::move(tokens)), syntax_(syntax) {}

  // Statements up to one of the tags `ends` (which is left at the tag's name), or the end of the template if none is given.
  Block block(std::initializer_list<std::string_view> ends, int opened = 0);

 private:
  using Ends = std::initializer_list<std::string_view>;

  // Statements
  const Statement* statement();
  const Statement* if_statement();
  const Statement* for_statement();
  const Statement* set_statement();
  const Statement* macro_statement();
  const Statement* call_statement();
  const Statement* filter_statement();
  const Statement* with_statement();
  const Statement* scope_statement(std::string_view end);
  Block body(Ends ends);       // after the tag's "%}"
  void end_tag(std::string_view name);
  void parameters(MacroDefinition& macro);
  Target target(bool may_be_attribute, Ends ends);
  Target single_target(bool may_be_attribute);
  Statement& add(Statement::Kind kind);

  // Expressions
  const Expression* expression(bool with_conditional = true);
  const Expression* either();   // or
  const Expression* both();     // and
  const Expression* negation();
  const Expression* comparison();
  const Expression* sum();
  const Expression* concatenation();
  const Expression* product();
  const Expression* power();
  const Expression* unary(bool with_filters = true);
  const Expression* primary();
  const Expression* postfix(const Expression* operand);
  const Expression* filters(const Expression* operand);
  const Expression* filter_chain(const Expression* operand, bool first_without_pipe);
  const Expression* test(const Expression* operand);
  const Expression* subscript(const Expression* operand);
  const Expression* call(const Expression* function);
  CallArguments call_arguments();
  // One expression, or a tuple of several with commas between.
  const Expression* tuple(bool with_conditional, bool in_parentheses = false, Ends ends = {});
  const Expression* list();
  const Expression* dict();
  const Expression* number();
  const Expression* constant(Value value);
  Expression& dotted_name(Expression::Kind kind);
  Expression& make(Expression::Kind kind, std::vector<const Expression*> parts = {});

  // Tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool skip_operator(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view op);
  void expect_block_end();
  std::string expect_name();
  int line() const { return tokens_[at_ > 0 ? at_ - 1 : 0].line; }  // of what was read last
  bool is_end_of_tuple(bool in_parentheses, Ends ends) const;
  static std::string shown(const Token& token);
  [[noreturn]] void fail(std::string what) const { throw Fault{FaultKind::Syntax, current().line, std::move(what)}; }

  struct Level {  // of nesting, until the end of the scope
    explicit Level(Parser& p) : parser(p) {
      if (++p.depth_ > 200) p.fail("the template is nested too deeply");
    }
    ~Level() { --parser.depth_; }
    Parser& parser;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Syntax& syntax_;
  int depth_ = 0, loops_ = 0;
  std::vector<MacroDefinition*> macros_;  // being parsed, the innermost last
};

}  // namespace moiety::jinja
