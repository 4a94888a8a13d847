#include "server/tools.h"

#include <algorithm>

#include "server/fields.h"

namespace moiety::server {
namespace {

OrderedJson schema_of(const Tool& tool) {
  return tool.parameters.is_object() && !tool.parameters.empty() ? tool.parameters : OrderedJson{{"type", "object"}};
}

OrderedJson call_schema(const Tool& tool) {
  return {{"type", "object"},
          {"properties", {{"name", {{"const", tool.name}}}, {"arguments", schema_of(tool)}}},
          {"required", {"name", "arguments"}},
          {"additionalProperties", false}};
}

// A call as the family marks it. Inside the block it is JSON, which the reply's parser takes from every family.
OutputRule::Form call_form(const Tool& tool, const text::ReplyFormat& format) {
  if (format.channels) {
    return {fmt::format("<|channel|>commentary to=functions.{} <|constrain|>json<|message|>", tool.name), schema_of(tool), ""};
  }
  if (format.tool_blocks.empty()) return {"", call_schema(tool), ""};
  const text::ReplyFormat::Block& block = format.tool_blocks[0];
  if (!block.close.empty()) return {block.open + "\n", call_schema(tool), "\n" + block.close};
  return {block.open, {{"type", "array"}, {"items", call_schema(tool)}, {"minItems", 1}, {"maxItems", 1}}, ""};
}

}  // namespace

OrderedJson tools_json(const std::vector<Tool>& tools) {
  OrderedJson list = OrderedJson::array();
  for (const Tool& tool : tools) {
    OrderedJson function = {{"name", tool.name}};
    if (!tool.description.empty()) function["description"] = tool.description;
    function["parameters"] = schema_of(tool);
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return list;
}

void apply_tools(const std::vector<Tool>& tools, const ToolChoice& choice, const char* param, AnswerRequest& request) {
  using Kind = ToolChoice::Kind;
  request.takes_calls = !tools.empty() && choice.kind != Kind::None;
  if (choice.kind != Kind::Required && choice.kind != Kind::Named) return;
  if (tools.empty()) wrong_field(param, fmt::format("'{}' asks for a call, but there are no tools", param));
  if (request.rule) wrong_field(param, fmt::format("'{}' and '{}' can't both be given", param, request.rule->field));

  OutputRule rule{.field = param};
  for (Prompt& prompt : request.prompts) {
    if (prompt.format->tool_blocks.empty() && !prompt.format->channels) prompt.format->bare_json_calls = true;
  }
  for (const Tool& tool : tools) {
    if (choice.kind == Kind::Required || tool.name == choice.name) rule.forms.push_back(call_form(tool, *request.prompts.at(0).format));
  }
  if (rule.forms.empty()) wrong_field(param, fmt::format("'{}' names the function '{}', which no tool has", param, choice.name));
  request.rule = std::move(rule);
}

}  // namespace moiety::server
