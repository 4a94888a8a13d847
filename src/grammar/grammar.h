// A context-free grammar of texts, as rules over expressions: what GBNF, JSON schemas and tool calls are made into.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/code_set.h"

namespace moiety::grammar {

// An expression of one Grammar, and one of its rules. Expressions may be parts of several others.
enum class Expr : uint32_t {};
enum class RuleId : uint32_t {};

inline constexpr uint32_t kUnlimited = UINT32_MAX;

// The byte that goes before the text of a special token ("<tool_call>") where the grammar asks for that token. It is part of no
// UTF-8 text, so special tokens come nowhere else.
inline constexpr char kSpecialMark = '\xff';

struct Node {
  enum class Kind {
    Text,      // these bytes
    Set,       // one character of a set, as UTF-8
    Sequence,  // all parts, one after the other
    Choice,    // one of the parts; of none: nothing, not even the empty text
    Repeat,    // the only part, at least `min` and at most `max` times
    Rule,
  };
  Kind kind;
  std::string text;
  CodeSet set;
  std::vector<Expr> parts;
  uint32_t min = 0, max = 0;
  RuleId rule{};
};

class Grammar {
 public:
  // All that make an expression throw Error(Input) when the grammar becomes larger than anybody needs.
  Expr text(std::string_view bytes);
  Expr special_token(std::string_view token_text);
  Expr set(CodeSet characters);
  Expr sequence(std::vector<Expr> parts);
  Expr choice(std::vector<Expr> parts);
  Expr repeat(Expr part, uint32_t min, uint32_t max = kUnlimited);
  Expr optional(Expr part) { return repeat(part, 0, 1); }
  Expr empty() { return text({}); }
  Expr nothing() { return choice({}); }

  // A rule is made first and defined later, so that it may speak of itself. `name` is for error sentences.
  RuleId add_rule(std::string name);
  void define(RuleId rule, Expr body);
  bool is_defined(RuleId rule) const { return rules_[static_cast<uint32_t>(rule)].is_defined; }
  Expr call(RuleId rule);
  // Both at once, for a rule that doesn't.
  Expr rule(std::string name, Expr body);

  void set_root(RuleId rule) { root_ = rule; }
  RuleId root() const { return root_; }

  struct Rule {
    std::string name;
    Expr body{};
    bool is_defined = false;
  };
  const std::vector<Rule>& rules() const { return rules_; }
  const Node& node(Expr expr) const { return nodes_[static_cast<uint32_t>(expr)]; }

 private:
  Expr add(Node node);

  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
  RuleId root_{};
  size_t size_ = 0;
};

}  // namespace moiety::grammar
