#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "jinja/functions.h"
#include "jinja/parser.h"

namespace moiety::jinja {

using Kind = Expression::Kind;

Expression& Parser::make(Kind kind, std::vector<const Expression*> parts) {
  Expression& made = syntax_.expressions.emplace_back(Expression{.kind = kind, .line = line()});
  made.parts = std::move(parts);
  return made;
}

const Expression* Parser::constant(Value value) {
  Expression& made = make(Kind::Constant);
  made.value = value;
  return &made;
}

const Expression* Parser::expression(bool with_conditional) {
  const Level level(*this);
  const Expression* value = either();
  while (with_conditional && skip_name("if")) {
    const Expression* condition = either();
    const Expression* otherwise = skip_name("else") ? expression() : nullptr;
    value = &make(Kind::Conditional, {value, condition, otherwise});
  }
  return value;
}

const Expression* Parser::either() {
  const Expression* left = both();
  while (skip_name("or")) {
    const Expression* right = both();
    left = &make(Kind::Or, {left, right});
  }
  return left;
}

const Expression* Parser::both() {
  const Expression* left = negation();
  while (skip_name("and")) {
    const Expression* right = negation();
    left = &make(Kind::And, {left, right});
  }
  return left;
}

const Expression* Parser::negation() {
  int count = 0;
  while (skip_name("not")) ++count;
  const Expression* value = comparison();
  if (count == 0) return value;
  value = &make(Kind::Not, {value});
  return count % 2 == 1 ? value : &make(Kind::Not, {value});
}

const Expression* Parser::comparison() {
  static constexpr std::pair<std::string_view, Operation> kComparisons[] = {
      {"==", Operation::Equal}, {"!=", Operation::NotEqual},     {"<", Operation::Less}, {"<=", Operation::LessEqual},
      {">", Operation::Greater}, {">=", Operation::GreaterEqual}};
  std::vector<const Expression*> parts = {sum()};
  std::vector<Operation> operations;
  while (true) {
    const auto* found = std::find_if(std::begin(kComparisons), std::end(kComparisons),
                                     [&](const auto& row) { return current().is_operator(row.first); });
    if (found != std::end(kComparisons)) {
      ++at_;
      operations.push_back(found->second);
    } else if (skip_name("in")) {
      operations.push_back(Operation::In);
    } else if (current().is_name("not") && next().is_name("in")) {
      at_ += 2;
      operations.push_back(Operation::NotIn);
    } else {
      break;
    }
    parts.push_back(sum());
  }
  if (operations.empty()) return parts[0];
  Expression& made = make(Kind::Compare, std::move(parts));
  made.operations = std::move(operations);
  return &made;
}

const Expression* Parser::sum() {
  const Expression* left = concatenation();
  while (current().is_operator("+") || current().is_operator("-")) {
    const Operation operation = take().text == "+" ? Operation::Add : Operation::Subtract;
    const Expression* right = concatenation();
    Expression& made = make(Kind::Binary, {left, right});
    made.operations = {operation};
    left = &made;
  }
  return left;
}

const Expression* Parser::concatenation() {
  std::vector<const Expression*> parts = {product()};
  while (skip_operator("~")) parts.push_back(product());
  return parts.size() == 1 ? parts[0] : &make(Kind::Concat, std::move(parts));
}

const Expression* Parser::product() {
  static constexpr std::pair<std::string_view, Operation> kProducts[] = {{"*", Operation::Multiply},
                                                                         {"/", Operation::Divide},
                                                                         {"//", Operation::FloorDivide},
                                                                         {"%", Operation::Modulo}};
  const Expression* left = power();
  while (true) {
    const auto* found = std::find_if(std::begin(kProducts), std::end(kProducts),
                                     [&](const auto& row) { return current().is_operator(row.first); });
    if (found == std::end(kProducts)) return left;
    ++at_;
    const Expression* right = power();
    Expression& made = make(Kind::Binary, {left, right});
    made.operations = {found->second};
    left = &made;
  }
}

// From left to right, and after the sign: jinja2's ways, not Python's.
const Expression* Parser::power() {
  const Expression* left = unary();
  while (skip_operator("**")) {
    const Expression* right = unary();
    Expression& made = make(Kind::Binary, {left, right});
    made.operations = {Operation::Power};
    left = &made;
  }
  return left;
}

const Expression* Parser::unary(bool with_filters) {
  const Level level(*this);
  const Expression* value;
  if (skip_operator("-")) {
    value = &make(Kind::Negate, {unary(false)});
  } else if (skip_operator("+")) {
    value = &make(Kind::Plus, {unary(false)});
  } else {
    value = primary();
  }
  value = postfix(value);
  return with_filters ? filters(value) : value;
}

const Expression* Parser::primary() {
  const Token token = current();
  switch (token.kind) {
    case Token::Kind::Name: {
      ++at_;
      if (token.text == "true" || token.text == "True") return constant(Value::of_bool(true));
      if (token.text == "false" || token.text == "False") return constant(Value::of_bool(false));
      if (token.text == "none" || token.text == "None") return constant(Value::none());
      for (MacroDefinition* macro : macros_) {
        macro->uses_caller |= token.text == "caller";
        macro->uses_varargs |= token.text == "varargs";
        macro->uses_kwargs |= token.text == "kwargs";
      }
      Expression& made = make(Kind::Name);
      made.name = syntax_.name(token.text);
      made.text = syntax_.names[static_cast<size_t>(made.name)];
      return &made;
    }
    case Token::Kind::String: {
      std::string text;
      while (current().kind == Token::Kind::String) text += take().text;
      return constant(Value(syntax_.string(std::move(text))));
    }
    case Token::Kind::Integer:
    case Token::Kind::Float:
      return number();
    default:
      break;
  }
  if (skip_operator("(")) {
    const Expression* inner = tuple(true, true);
    expect_operator(")");
    return inner;
  }
  if (token.is_operator("[")) return list();
  if (token.is_operator("{")) return dict();
  fail(fmt::format("expected an expression, found {}", shown(token)));
}

const Expression* Parser::number() {
  const Token token = take();
  if (token.kind == Token::Kind::Float) return constant(Value::of_float(std::strtod(token.text.c_str(), nullptr)));
  std::string_view digits = token.text;
  int base = 10;
  if (digits.size() > 1 && digits[0] == '0') {
    const char mark = static_cast<char>(digits[1] | 32);
    base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    fail(fmt::format("'{}' is no number of 64 bits", token.text.substr(0, 60)));
  }
  return constant(Value::of_int(value));
}

const Expression* Parser::list() {
  std::vector<const Expression*> parts;
  expect_operator("[");
  while (!current().is_operator("]")) {
    if (!parts.empty()) {
      expect_operator(",");
      if (current().is_operator("]")) break;
    }
    parts.push_back(expression());
  }
  expect_operator("]");
  return &make(Kind::List, std::move(parts));
}

const Expression* Parser::dict() {
  std::vector<const Expression*> parts;
  expect_operator("{");
  while (!current().is_operator("}")) {
    if (!parts.empty()) {
      expect_operator(",");
      if (current().is_operator("}")) break;
    }
    parts.push_back(expression());
    expect_operator(":");
    parts.push_back(expression());
  }
  expect_operator("}");
  return &make(Kind::Dict, std::move(parts));
}

bool Parser::is_end_of_tuple(bool in_parentheses, Ends ends) const {
  const Token& token = current();
  if (token.kind == Token::Kind::PrintEnd || token.kind == Token::Kind::BlockEnd) return true;
  if (in_parentheses && token.is_operator(")")) return true;
  return token.kind == Token::Kind::Name && std::find(ends.begin(), ends.end(), token.text) != ends.end();
}

const Expression* Parser::tuple(bool with_conditional, bool in_parentheses, Ends ends) {
  std::vector<const Expression*> parts;
  bool has_comma = false;
  while (!is_end_of_tuple(in_parentheses, ends)) {
    parts.push_back(expression(with_conditional));
    if (!skip_operator(",")) break;
    has_comma = true;
  }
  if (!has_comma && !parts.empty()) return parts[0];
  if (parts.empty() && !in_parentheses) fail(fmt::format("expected an expression, found {}", shown(current())));
  return &make(Kind::Tuple, std::move(parts));
}

const Expression* Parser::postfix(const Expression* operand) {
  while (true) {
    if (skip_operator(".")) {
      if (current().kind == Token::Kind::Integer) {
        operand = &make(Kind::Subscript, {operand, number()});
        continue;
      }
      Expression& made = make(Kind::Attribute, {operand});
      made.text = syntax_.string(expect_name());
      operand = &made;
    } else if (current().is_operator("[")) {
      operand = subscript(operand);
    } else if (current().is_operator("(")) {
      operand = call(operand);
    } else {
      return operand;
    }
  }
}

const Expression* Parser::filters(const Expression* operand) {
  while (true) {
    if (current().is_operator("|")) {
      operand = filter_chain(operand, false);
    } else if (skip_name("is")) {
      operand = test(operand);
    } else if (current().is_operator("(")) {
      operand = call(operand);
    } else {
      return operand;
    }
  }
}

Expression& Parser::dotted_name(Kind kind) {
  Expression& made = make(kind);
  std::string name = expect_name();
  while (skip_operator(".")) name += "." + expect_name();
  made.text = syntax_.string(std::move(name));
  return made;
}

const Expression* Parser::filter_chain(const Expression* operand, bool first_without_pipe) {
  while (first_without_pipe || skip_operator("|")) {
    first_without_pipe = false;
    Expression& made = dotted_name(Kind::Filter);
    made.builtin = find_filter(made.text->text);
    made.parts = {operand};
    if (current().is_operator("(")) made.arguments = call_arguments();
    operand = &made;
  }
  return operand;
}

const Expression* Parser::test(const Expression* operand) {
  const bool is_negated = skip_name("not");
  Expression& made = dotted_name(Kind::Test);
  made.builtin = find_test(made.text->text);
  made.parts = {operand};
  const Token& token = current();
  static constexpr std::string_view kNoArgument[] = {"else", "or", "and", "if", "in", "not"};
  const bool ends_here = token.kind == Token::Kind::Name &&
                         std::find(std::begin(kNoArgument), std::end(kNoArgument), token.text) != std::end(kNoArgument);
  if (token.is_operator("(")) {
    made.arguments = call_arguments();
  } else if ((token.kind == Token::Kind::Name && !ends_here) || token.kind == Token::Kind::String ||
             token.kind == Token::Kind::Integer || token.kind == Token::Kind::Float || token.is_operator("[") ||
             token.is_operator("{")) {
    if (token.is_name("is")) fail("tests with 'is' cannot follow each other");
    made.arguments.positional = {postfix(primary())};
  }
  return is_negated ? &make(Kind::Not, {&made}) : &made;
}

const Expression* Parser::subscript(const Expression* operand) {
  const Level level(*this);
  expect_operator("[");
  const Expression* parts[3] = {};
  int colons = 0;
  std::vector<const Expression*> several;
  while (!current().is_operator("]")) {
    if (current().is_operator(":")) {
      if (++colons > 2) fail("a slice has at most two ':'");
      ++at_;
    } else if (skip_operator(",")) {
      if (colons > 0 || parts[0] == nullptr) fail("expected an expression, found ','");
      several.push_back(std::exchange(parts[0], nullptr));
    } else {
      if (parts[colons] != nullptr) fail(fmt::format("expected ']', found {}", shown(current())));
      parts[colons] = expression();
    }
  }
  if (colons > 0 && !several.empty()) fail("a slice cannot stand among several subscripts");
  expect_operator("]");
  if (colons > 0) return &make(Kind::Slice, {operand, parts[0], parts[1], parts[2]});
  if (!several.empty()) {
    if (parts[0] != nullptr) several.push_back(parts[0]);
    return &make(Kind::Subscript, {operand, &make(Kind::Tuple, std::move(several))});
  }
  if (parts[0] == nullptr) fail("expected an expression, found ']'");
  return &make(Kind::Subscript, {operand, parts[0]});
}

const Expression* Parser::call(const Expression* function) {
  Expression& made = make(Kind::Call, {function});
  made.arguments = call_arguments();
  return &made;
}

CallArguments Parser::call_arguments() {
  const Level level(*this);
  CallArguments arguments;
  bool first = true;
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    first = false;
    if (skip_operator("**")) {
      if (arguments.more_named != nullptr) fail("'**' comes twice in a call");
      arguments.more_named = expression();
    } else if (skip_operator("*")) {
      if (arguments.more_positional != nullptr || arguments.more_named != nullptr) fail("'*' comes twice in a call");
      arguments.more_positional = expression();
    } else if (current().kind == Token::Kind::Name && next().is_operator("=")) {
      const String* name = syntax_.string(take().text);
      ++at_;
      arguments.named.emplace_back(name, expression());
    } else {
      const bool is_late = !arguments.named.empty() || arguments.more_positional != nullptr || arguments.more_named != nullptr;
      if (is_late) fail("an argument without a name follows one with a name");
      arguments.positional.push_back(expression());
    }
  }
  expect_operator(")");
  return arguments;
}

}  // namespace moiety::jinja
