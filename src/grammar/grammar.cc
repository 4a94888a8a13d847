#include "grammar/grammar.h"

#include <utility>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr size_t kMostParts = 200'000;  // of all expressions
constexpr size_t kMostRules = 20'000;

}  // namespace

Expr Grammar::add(Node node) {
  size_ += 1 + node.parts.size() + node.text.size() + node.set.ranges().size();
  require(size_ <= kMostParts, "grammar: more than {} parts", kMostParts);
  nodes_.push_back(std::move(node));
  return Expr(nodes_.size() - 1);
}

Expr Grammar::text(std::string_view bytes) {
  return add({.kind = Node::Kind::Text, .text = std::string(bytes)});
}

Expr Grammar::special_token(std::string_view token_text) {
  return text(kSpecialMark + std::string(token_text));
}

Expr Grammar::set(CodeSet characters) {
  return add({.kind = Node::Kind::Set, .set = std::move(characters)});
}

Expr Grammar::sequence(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Node::Kind::Sequence, .parts = std::move(parts)});
}

Expr Grammar::choice(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Node::Kind::Choice, .parts = std::move(parts)});
}

Expr Grammar::repeat(Expr part, uint32_t min, uint32_t max) {
  if (min > max) return nothing();
  if (max == 0) return empty();
  if (min == 1 && max == 1) return part;
  return add({.kind = Node::Kind::Repeat, .parts = {part}, .min = min, .max = max});
}

RuleId Grammar::add_rule(std::string name) {
  require(rules_.size() < kMostRules, "grammar: more than {} rules", kMostRules);
  rules_.push_back({std::move(name)});
  return RuleId(rules_.size() - 1);
}

void Grammar::define(RuleId rule, Expr body) {
  Rule& defined = rules_[static_cast<uint32_t>(rule)];
  defined.body = body;
  defined.is_defined = true;
}

Expr Grammar::call(RuleId rule) {
  return add({.kind = Node::Kind::Rule, .rule = rule});
}

Expr Grammar::rule(std::string name, Expr body) {
  const RuleId id = add_rule(std::move(name));
  define(id, body);
  return call(id);
}

}  // namespace moiety::grammar
