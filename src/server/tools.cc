#include "server/tools.h"

#include "server/fields.h"

namespace moiety::server {
namespace {

OrderedJson schema_of(const Tool& tool) {
  return tool.parameters.is_object() && !tool.parameters.empty() ? tool.parameters : OrderedJson{{"type", "object"}};
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

  const Prompt& prompt = request.prompts.at(0);
  OutputRule rule{.kind = OutputRule::Kind::Calls, .format = *prompt.format, .several_calls = request.forces_several && choice.kind == Kind::Required, .field = param};
  for (const Tool& tool : tools) {
    if (choice.kind == Kind::Required || tool.name == choice.name) rule.tools.push_back(tool);
  }
  if (rule.tools.empty()) wrong_field(param, fmt::format("'{}' names the function '{}', which no tool has", param, choice.name));
  request.rule = std::move(rule);
  // A family that marks no calls writes them as JSON, nothing else.
  const bool marks_calls = !prompt.format->tool_blocks.empty() || prompt.format->channels;
  if (!marks_calls) request.prompts[0].format->bare_json_calls = true;
}

}  // namespace moiety::server
