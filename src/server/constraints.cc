#include "server/constraints.h"

#include "grammar/compiled_grammar.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"
#include "grammar/tool_grammar.h"
#include "server/token_grammar.h"

namespace moiety::server {
namespace {

using grammar::Expr;
using grammar::Grammar;

std::vector<std::string> special_tokens(const text::Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (const spec::AddedToken& token : tokenizer.spec().added) {
    if (token.special) texts.push_back(token.content);
  }
  return texts;
}

// How a family's calls are marked. Inside its block a call is JSON, which text/reply takes from every family.
grammar::ToolFormat tool_format(const text::ReplyFormat& format) {
  if (format.tool_blocks.empty()) return {};
  const text::ReplyFormat::Block& block = format.tool_blocks[0];
  return {.open = block.open, .close = block.close, .is_list = block.close.empty() && block.open != "<|python_tag|>"};
}

// gpt-oss: the header of a channel names the function, and the channel is its arguments.
Grammar channel_calls(const OutputRule& rule, const grammar::SchemaOptions& options) {
  Grammar grammar;
  grammar::JsonText json(grammar);
  const auto mark = [&](const char* text) { return grammar.choice({grammar.text(text), grammar.special_token(text)}); };
  std::vector<Expr> calls;
  for (const Tool& tool : rule.tools) {
    const Expr arguments = tool.parameters.is_object() && !tool.parameters.empty() ? json_schema(json, tool.parameters, options) : json.object();
    calls.push_back(grammar.sequence({mark("<|channel|>"), grammar.text("commentary to=functions." + tool.name + " "), mark("<|constrain|>"),
                                      grammar.text("json"), mark("<|message|>"), arguments}));
  }
  const grammar::RuleId root = grammar.add_rule("calls");
  grammar.define(root, grammar.choice(std::move(calls)));
  grammar.set_root(root);
  return grammar;
}

Grammar tool_calls(const OutputRule& rule, const text::Tokenizer& tokenizer) {
  const grammar::ToolGrammarOptions options{.several = rule.several_calls, .special_tokens = special_tokens(tokenizer)};
  if (rule.format.channels) return channel_calls(rule, options.schemas);
  std::vector<grammar::Tool> tools;
  for (const Tool& tool : rule.tools) tools.push_back({tool.name, tool.parameters});
  return grammar::tool_grammar(tools, tool_format(rule.format), options);
}

Grammar make_grammar(const OutputRule& rule, const text::Tokenizer& tokenizer) {
  switch (rule.kind) {
    case OutputRule::Kind::Object:
      return grammar::json_object_grammar();
    case OutputRule::Kind::Schema:
      return grammar::json_schema_grammar(rule.schema);
    case OutputRule::Kind::Grammar:
      return grammar::parse_gbnf(rule.grammar);
    case OutputRule::Kind::Calls:
      return tool_calls(rule, tokenizer);
  }
  return grammar::json_object_grammar();
}

// Rules of the same key have the same grammar; of one tokenizer all formats mark calls alike, but for the template chosen.
std::string key_of(const OutputRule& rule) {
  OrderedJson key = {static_cast<int>(rule.kind), rule.schema, rule.grammar, rule.several_calls, rule.format.channels};
  for (const text::ReplyFormat::Block& block : rule.format.tool_blocks) key.push_back(block.open);
  for (const Tool& tool : rule.tools) {
    key.push_back(tool.name);
    key.push_back(tool.parameters);
  }
  return to_text(key);
}

}  // namespace

ConstraintMaker grammar_constraints(const text::Tokenizer& tokenizer) {
  auto cache = std::make_shared<grammar::GrammarCache>(std::make_shared<grammar::Vocabulary>(tokenizer));
  return [cache, &tokenizer](const OutputRule& rule, std::span<const int32_t> stop_tokens) -> std::unique_ptr<engine::TokenConstraint> {
    auto compiled = cache->get(key_of(rule), [&] { return make_grammar(rule, tokenizer); });
    return std::make_unique<TokenGrammar>(std::move(compiled), std::vector<int32_t>(stop_tokens.begin(), stop_tokens.end()));
  };
}

}  // namespace moiety::server
