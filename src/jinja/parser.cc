#include "jinja/parser.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::jinja {

using Kind = Statement::Kind;

void parse(std::string_view source, Syntax& syntax) {
  syntax.loop_name = syntax.name("loop");
  syntax.root = Parser(tokenize(source), syntax).block({});
}

Statement& Parser::add(Kind kind) { return syntax_.statements.emplace_back(Statement{.kind = kind, .line = line()}); }

Block Parser::block(Ends ends, int opened) {
  const Level level(*this);
  Block block;
  while (true) {
    const Token& token = current();
    if (token.kind == Token::Kind::End) {
      if (ends.size() == 0) return block;
      fail(fmt::format("'{}' is missing: the block of line {} is not closed", *(ends.end() - 1), opened));
    }
    if (token.kind == Token::Kind::Data) {
      add(Kind::Text).text = token.text;
      block.push_back(&syntax_.statements.back());
      ++at_;
    } else if (token.kind == Token::Kind::PrintBegin) {
      ++at_;
      Statement& print = add(Kind::Print);
      print.expression = tuple(true);
      if (current().kind != Token::Kind::PrintEnd) fail(fmt::format("expected '}}}}', found {}", shown(current())));
      ++at_;
      block.push_back(&print);
    } else {
      ++at_;  // BlockBegin
      if (current().kind != Token::Kind::Name) fail(fmt::format("expected the name of a tag, found {}", shown(current())));
      for (const std::string_view end : ends) {
        if (current().text == end) return block;
      }
      if (const Statement* made = statement()) block.push_back(made);
    }
  }
}

Block Parser::body(Ends ends) {
  const int opened = line();
  expect_block_end();
  return block(ends, opened);
}

void Parser::end_tag(std::string_view name) {
  if (!skip_name(name)) fail(fmt::format("expected '{}', found {}", name, shown(current())));
  expect_block_end();
}

const Statement* Parser::statement() {
  const std::string tag = take().text;
  if (tag == "if") return if_statement();
  if (tag == "for") return for_statement();
  if (tag == "set") return set_statement();
  if (tag == "macro") return macro_statement();
  if (tag == "call") return call_statement();
  if (tag == "filter") return filter_statement();
  if (tag == "with") return with_statement();
  if (tag == "generation") return scope_statement("endgeneration");
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail(fmt::format("'{}' is not inside a loop", tag));
    const Statement& jump = add(tag == "break" ? Kind::Break : Kind::Continue);
    expect_block_end();
    return &jump;
  }
  if (tag == "include" || tag == "import" || tag == "from" || tag == "extends" || tag == "block") {
    fail(fmt::format("'{}' needs other templates, which a chat template does not have", tag));
  }
  --at_;
  fail(fmt::format("unknown tag '{}'", tag));
}

const Statement* Parser::if_statement() {
  Statement& made = add(Kind::If);
  while (true) {
    const Expression* condition = tuple(false);
    made.branches.push_back({condition, body({"elif", "else", "endif"})});
    if (skip_name("elif")) continue;
    if (skip_name("else")) made.branches.push_back({nullptr, body({"endif"})});
    end_tag("endif");
    return &made;
  }
}

const Statement* Parser::for_statement() {
  Statement& loop = add(Kind::For);
  loop.target = target(false, {"in"});
  if (!skip_name("in")) fail(fmt::format("expected 'in', found {}", shown(current())));
  loop.expression = tuple(false, false, {"recursive"});
  if (skip_name("if")) loop.condition = expression();
  loop.is_recursive = skip_name("recursive");
  ++loops_;
  loop.body = body({"else", "endfor"});
  --loops_;
  if (skip_name("else")) loop.otherwise = body({"endfor"});
  end_tag("endfor");
  return &loop;
}

const Statement* Parser::set_statement() {
  Statement& made = add(Kind::Set);
  made.target = target(true, {});
  if (skip_operator("=")) {
    made.expression = tuple(true);
    expect_block_end();
    return &made;
  }
  made.kind = Kind::SetBlock;
  if (current().is_operator("|")) made.expression = filter_chain(nullptr, false);
  made.body = body({"endset"});
  end_tag("endset");
  return &made;
}

const Statement* Parser::macro_statement() {
  Statement& made = add(Kind::Macro);
  const std::string name = expect_name();
  made.target.name = syntax_.name(name);
  made.macro.name = syntax_.string(name);
  macros_.push_back(&made.macro);
  parameters(made.macro);
  const int loops = std::exchange(loops_, 0);
  made.macro.body = body({"endmacro"});
  loops_ = loops;
  macros_.pop_back();
  end_tag("endmacro");
  return &made;
}

const Statement* Parser::call_statement() {
  Statement& made = add(Kind::Call);
  made.macro.name = syntax_.string("caller");
  macros_.push_back(&made.macro);
  if (current().is_operator("(")) parameters(made.macro);
  macros_.pop_back();
  made.expression = expression();
  if (made.expression->kind != Expression::Kind::Call) fail("'call' needs a call, as in {% call name() %}");
  macros_.push_back(&made.macro);
  const int loops = std::exchange(loops_, 0);
  made.macro.body = body({"endcall"});
  loops_ = loops;
  macros_.pop_back();
  end_tag("endcall");
  return &made;
}

void Parser::parameters(MacroDefinition& macro) {
  macro.caller = syntax_.name("caller");
  macro.varargs = syntax_.name("varargs");
  macro.kwargs = syntax_.name("kwargs");
  expect_operator("(");
  while (!skip_operator(")")) {
    if (!macro.parameters.empty()) {
      expect_operator(",");
      if (skip_operator(")")) break;
    }
    const std::string name = expect_name();
    const int number = syntax_.name(name);
    const Expression* otherwise = nullptr;
    if (skip_operator("=")) {
      otherwise = expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().otherwise != nullptr) {
      fail(fmt::format("parameter '{}' has no default but follows one that has", name));
    }
    macro.parameters.push_back({number, syntax_.names[static_cast<size_t>(number)], otherwise});
  }
}

const Statement* Parser::filter_statement() {
  Statement& made = add(Kind::Filter);
  made.expression = filter_chain(nullptr, true);
  made.body = body({"endfilter"});
  end_tag("endfilter");
  return &made;
}

const Statement* Parser::with_statement() {
  Statement& made = add(Kind::With);
  while (current().kind != Token::Kind::BlockEnd) {
    if (!made.assignments.empty()) expect_operator(",");
    Target to = target(false, {});
    expect_operator("=");
    made.assignments.emplace_back(std::move(to), expression());
  }
  made.body = body({"endwith"});
  end_tag("endwith");
  return &made;
}

const Statement* Parser::scope_statement(std::string_view end) {
  Statement& made = add(Kind::Scope);
  made.body = body({end});
  end_tag(end);
  return &made;
}

Target Parser::single_target(bool may_be_attribute) {
  const Level level(*this);
  if (skip_operator("(")) {
    Target inner = target(may_be_attribute, {});
    expect_operator(")");
    return inner;
  }
  const std::string name = expect_name();
  for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (name == reserved) fail(fmt::format("'{}' cannot be set", name));
  }
  Target made{.name = syntax_.name(name)};
  if (may_be_attribute && skip_operator(".")) {
    made.kind = Target::Kind::Attribute;
    made.attribute = syntax_.string(expect_name());
  }
  return made;
}

Target Parser::target(bool may_be_attribute, Ends ends) {
  Target first = single_target(may_be_attribute);
  if (!current().is_operator(",")) return first;
  Target all{.kind = Target::Kind::Tuple};
  all.parts.push_back(std::move(first));
  while (skip_operator(",")) {
    const bool ended = current().kind != Token::Kind::Name && !current().is_operator("(");
    if (ended || std::find(ends.begin(), ends.end(), current().text) != ends.end()) break;
    all.parts.push_back(single_target(may_be_attribute));
  }
  return all;
}

bool Parser::skip_operator(std::string_view op) {
  if (!current().is_operator(op)) return false;
  ++at_;
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  ++at_;
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) fail(fmt::format("expected '{}', found {}", op, shown(current())));
}

void Parser::expect_block_end() {
  if (current().kind != Token::Kind::BlockEnd) fail(fmt::format("expected '%}}', found {}", shown(current())));
  ++at_;
}

std::string Parser::expect_name() {
  if (current().kind != Token::Kind::Name) fail(fmt::format("expected a name, found {}", shown(current())));
  return take().text;
}

std::string Parser::shown(const Token& token) {
  switch (token.kind) {
    case Token::Kind::PrintBegin:
      return "'{{'";
    case Token::Kind::PrintEnd:
      return "'}}'";
    case Token::Kind::BlockBegin:
      return "'{%'";
    case Token::Kind::BlockEnd:
      return "'%}'";
    case Token::Kind::End:
      return "the end of the template";
    case Token::Kind::Data:
      return "text";
    case Token::Kind::String:
      return "a string";
    default:
      return fmt::format("'{}'", token.text.substr(0, 60));
  }
}

}  // namespace moiety::jinja
