#include "cli/conversation.h"

#include "base/file.h"
#include "base/json.h"

namespace moiety::cli {

Conversation::Conversation(const ChatArguments& arguments) : context_(OrderedJson::object()) {
  if (arguments.context) context_ = parse_ordered_json(read_file(*arguments.context), *arguments.context);
  require(context_.is_object(), "{}: expected a JSON object with messages", arguments.context.value_or(""));
  for (const std::string& setting : arguments.settings) set(setting);
  given_ = context_.value("messages", OrderedJson::array());
  context_.erase("messages");
  require(given_.is_array(), "{}: \"messages\" must be a list", arguments.context.value_or(""));
  if (arguments.system) set_system(*arguments.system);
  clear();
}

void Conversation::set_system(const std::string& text) {
  if (!given_.empty() && given_[0].is_object() && given_[0].value("role", "") == "system") given_.erase(given_.begin());
  given_.insert(given_.begin(), OrderedJson{{"role", "system"}, {"content", text}});
}

// NAME=JSON; what is no JSON is text.
void Conversation::set(const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == setting.npos || equals == 0) fail(ErrorKind::Usage, "--set {}: expected NAME=VALUE", setting);
  const std::string value = setting.substr(equals + 1);
  context_[setting.substr(0, equals)] = Json::accept(value) ? parse_ordered_json(value, "--set") : OrderedJson(value);
}

void Conversation::remember(const text::Reply& reply, const char* reasoning_name) {
  OrderedJson message = {{"role", "assistant"}, {"content", reply.content}};
  if (!reply.reasoning.empty()) message[reasoning_name] = reply.reasoning;
  if (!reply.tool_calls.empty()) message["tool_calls"] = calls_of(reply);
  messages_.push_back(std::move(message));
}

OrderedJson calls_of(const text::Reply& reply) {
  OrderedJson calls = OrderedJson::array();
  for (size_t i = 0; i < reply.tool_calls.size(); ++i) {
    const text::ToolCall& call = reply.tool_calls[i];
    calls.push_back({{"id", fmt::format("call{:05}", i)},
                     {"type", "function"},
                     {"function", {{"name", call.name}, {"arguments", OrderedJson::parse(call.arguments)}}}});
  }
  return calls;
}

}  // namespace moiety::cli
