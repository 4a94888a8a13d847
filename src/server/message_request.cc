#include "server/message_request.h"

#include "server/answer_fields.h"
#include "server/protocols.h"
#include "server/tools.h"

namespace moiety::server {
namespace {

FieldTable block_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "text, thinking, redacted_thinking, tool_use or tool_result"},
      {"text", FieldType::Text, "of a text"},
      {"thinking", FieldType::Text, "of a thinking: what the assistant thought"},
      {"id", FieldType::Text, "of a tool_use"},
      {"name", FieldType::Text, "of a tool_use: the tool's"},
      {"input", FieldType::Object, "of a tool_use: the arguments"},
      {"tool_use_id", FieldType::Text, "of a tool_result"},
      {"content", FieldType::TextOrList, "of a tool_result: a text, or blocks of type text"},
  };
  return rows;
}

FieldTable turn_fields() {
  static const std::vector<Field> rows = {
      {"role", FieldType::Text, "user or assistant"},
      {"content", FieldType::TextOrList, "a text, or blocks", block_fields},
  };
  return rows;
}

FieldTable tool_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "custom, or none"},
      {"name", FieldType::Text, "what a call names"},
      {"description", FieldType::Text, "what it does"},
      {"input_schema", FieldType::Object, "a JSON schema of its arguments"},
  };
  return rows;
}

FieldTable choice_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "auto, any, tool or none"},
      {"name", FieldType::Text, "of the tool"},
      {"disable_parallel_tool_use", FieldType::Flag, "the answer ends after one call"},
  };
  return rows;
}

FieldTable thinking_fields() {
  static const std::vector<Field> rows = {{"type", FieldType::Text, "enabled or disabled: the chat template's enable_thinking"}};
  return rows;
}

// Calls visit(block, type) for each block of a list.
template <class Visit>
void for_each_block(const OrderedJson& list, const std::string& where, Visit visit) {
  for (size_t i = 0; i < list.size(); ++i) {
    const Fields block(list[i], block_fields(), fmt::format("{}[{}]", where, i));
    visit(block, block.need_text("type"));
  }
}

[[noreturn]] void refuse(const Fields& block, const std::string& type) {
  block.wrong("type", fmt::format("is \"{}\": this model reads text only", type.substr(0, 60)));
}

// A text, or blocks of text, one a line.
std::string read_text(const Fields& owner, const char* name) {
  const OrderedJson* value = owner.any(name);
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  std::string text;
  bool is_first = true;
  for_each_block(*owner.list(name), owner.param(name), [&](const Fields& block, const std::string& type) {
    if (type != "text") refuse(block, type);
    if (!std::exchange(is_first, false)) text += '\n';
    text += block.need_text("text");
  });
  return text;
}

// One turn is one message, after those that tell the results of tools.
void add_turn(const Fields& turn, OrderedJson& messages) {
  const std::string role = turn.need_text("role");
  if (role != "user" && role != "assistant" && role != "system") {
    turn.wrong("role", fmt::format("must be user or assistant, found \"{}\"", role.substr(0, 60)));
  }
  const OrderedJson& content = turn.need("content");
  if (content.is_string()) {
    messages.push_back({{"role", role}, {"content", content}});
    return;
  }
  std::string text, reasoning;
  OrderedJson calls = OrderedJson::array();
  bool has_results = false, has_text = false;
  for_each_block(*turn.list("content"), turn.param("content"), [&](const Fields& block, const std::string& type) {
    if (type == "text") {
      text += (has_text ? "\n" : "") + block.need_text("text");
      has_text = true;
    } else if (type == "thinking" && role == "assistant") {
      reasoning += block.text("thinking").value_or("");
    } else if (type == "redacted_thinking") {
      return;
    } else if (type == "tool_use" && role == "assistant") {
      const OrderedJson* input = block.object("input");
      calls.push_back({{"id", block.text("id").value_or("")},
                       {"type", "function"},
                       {"function", {{"name", block.need_text("name")}, {"arguments", input == nullptr ? "{}" : to_text(*input)}}}});
    } else if (type == "tool_result" && role == "user") {
      messages.push_back({{"role", "tool"}, {"tool_call_id", block.need_text("tool_use_id")}, {"content", read_text(block, "content")}});
      has_results = true;
    } else {
      refuse(block, type);
    }
  });
  if (has_results && !has_text) return;
  OrderedJson message = {{"role", role}, {"content", has_text || calls.empty() ? OrderedJson(text) : OrderedJson()}};
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  messages.push_back(std::move(message));
}

std::vector<Tool> read_tools(const Fields& body) {
  std::vector<Tool> tools;
  const OrderedJson* list = body.list("tools");
  if (list == nullptr) return tools;
  for (size_t i = 0; i < list->size(); ++i) {
    const Fields tool((*list)[i], tool_fields(), fmt::format("tools[{}]", i));
    if (tool.text("type").value_or("custom") != "custom") tool.wrong("type", "must be custom: this server has no tools of its own");
    const OrderedJson* schema = tool.object("input_schema");
    tools.push_back({tool.need_text("name"), tool.text("description").value_or(""), schema != nullptr ? *schema : OrderedJson::object()});
  }
  return tools;
}

ToolChoice read_tool_choice(const Fields& body, bool& parallel) {
  using Kind = ToolChoice::Kind;
  const OrderedJson* object = body.object("tool_choice");
  if (object == nullptr) return {};
  const Fields choice(*object, choice_fields(), "tool_choice");
  parallel = !choice.flag("disable_parallel_tool_use").value_or(false);
  const std::string type = choice.need_text("type");
  if (type == "auto") return {};
  if (type == "none") return {Kind::None, {}};
  if (type == "any") return {Kind::Required, {}};
  if (type == "tool") return {Kind::Named, choice.need_text("name")};
  choice.wrong("type", fmt::format("must be auto, any, tool or none, found \"{}\"", type.substr(0, 60)));
}

Conversation read_conversation(const Fields& body) {
  Conversation conversation;
  if (const std::string system = read_text(body, "system"); !system.empty()) {
    conversation.messages.push_back({{"role", "system"}, {"content", system}});
  }
  body.need("messages");
  const OrderedJson& turns = *body.list("messages");
  if (turns.empty()) body.wrong("messages", "must have a message");
  for (size_t i = 0; i < turns.size(); ++i) add_turn(Fields(turns[i], turn_fields(), fmt::format("messages[{}]", i)), conversation.messages);
  // What the assistant has begun to say it goes on with.
  const OrderedJson& last = conversation.messages.back();
  conversation.continue_final_message = last.at("role") == "assistant" && last.at("content").is_string() && !last.contains("tool_calls");

  bool parallel = true;
  if (read_tool_choice(body, parallel).kind != ToolChoice::Kind::None) conversation.tools = tools_json(read_tools(body));
  if (const OrderedJson* settings = body.object("chat_template_kwargs")) conversation.settings = *settings;
  if (const OrderedJson* thinking = body.object("thinking")) {
    const Fields fields(*thinking, thinking_fields(), "thinking");
    const std::string type = fields.need_text("type");
    if (type != "enabled" && type != "disabled" && type != "adaptive") fields.wrong("type", "must be enabled, disabled or adaptive");
    conversation.settings["enable_thinking"] = type != "disabled";
  }
  return conversation;
}

}  // namespace

FieldTable message_fields() {
  static const std::vector<Field> rows = with_answer_fields({
      {"model", FieldType::Text, "the model's name"},
      {"max_tokens", FieldType::Integer, "tokens of the answer at most", 1, 1e9},
      {"messages", FieldType::List, "the conversation", turn_fields},
      {"system", FieldType::TextOrList, "what comes before it: a text, or blocks of type text", block_fields},
      {"stream", FieldType::Flag, "the answer comes as server-sent events"},
      {"stop_sequences", FieldType::List, "texts that end the answer and are not part of it"},
      {"tools", FieldType::List, "what may be called", tool_fields},
      {"tool_choice", FieldType::Object, "whether and what must be called", choice_fields},
      {"thinking", FieldType::Object, "whether the model thinks before it answers", thinking_fields},
      {"chat_template_kwargs", FieldType::Object, "more names for the chat template"},
  });
  return rows;
}

MessageRequest read_message_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, message_fields());
  check_model(service, body.text("model").value_or(""));
  MessageRequest request;
  request.stream = body.flag("stream").value_or(false);
  AnswerRequest& answer = request.answer;
  read_answer_fields(service, body, answer);
  body.need("max_tokens");
  answer.max_new_tokens = static_cast<size_t>(*body.integer("max_tokens"));
  body.list("stop_sequences");
  add_stop_strings(body, "stop_sequences", answer);
  answer.prompts.push_back(make_prompt(service, read_conversation(body)));
  const ToolChoice choice = read_tool_choice(body, answer.parallel_calls);
  apply_tools(read_tools(body), choice, "tool_choice", answer);
  make_constraints(service, answer);
  return request;
}

size_t count_tokens(const Service& service, const OrderedJson& json) {
  const Fields body(json, message_fields());
  check_model(service, body.text("model").value_or(""));
  return make_prompt(service, read_conversation(body)).tokens.size();
}

}  // namespace moiety::server
