#include "server/chat_request.h"

#include <algorithm>

#include "server/answer_fields.h"
#include "server/answers.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

FieldTable stream_option_fields() {
  static const std::vector<Field> rows = {{"include_usage", FieldType::Flag, "one more event before the end says what the answers took"}};
  return rows;
}

FieldTable part_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "text"},
      {"text", FieldType::Text, "the part's text"},
      {"refusal", FieldType::Text, "of a part of type refusal"},
  };
  return rows;
}

FieldTable function_fields() {
  static const std::vector<Field> rows = {
      {"name", FieldType::Text, "what a call names"},
      {"description", FieldType::Text, "what it does"},
      {"parameters", FieldType::Object, "a JSON schema of its arguments"},
      {"arguments", FieldType::Text, "of a call: JSON"},
  };
  return rows;
}

FieldTable tool_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "function"},
      {"id", FieldType::Text, "of a call"},
      {"function", FieldType::Object, "the function", function_fields},
  };
  return rows;
}

FieldTable chat_message_fields() {
  static const std::vector<Field> rows = {
      {"role", FieldType::Text, "system, developer, user, assistant or tool"},
      {"content", FieldType::TextOrList, "a text, or parts of type text", part_fields},
      {"reasoning_content", FieldType::Text, "what the assistant thought"},
      {"tool_calls", FieldType::List, "the assistant's calls", tool_fields},
      {"tool_call_id", FieldType::Text, "whose result a tool's message is"},
      {"name", FieldType::Text, "of who speaks, or of the tool"},
  };
  return rows;
}

// Of parts the texts, one a line.
OrderedJson read_content(const Fields& message) {
  const OrderedJson* content = message.any("content");
  if (content == nullptr) return nullptr;
  if (content->is_string()) return *content;
  if (!content->is_array()) message.wrong("content", fmt::format("must be a string or a list of parts, found {}", shown(*content)));
  std::string text;
  size_t at = 0;
  for (const OrderedJson& item : *content) {
    const Fields part(item, part_fields(), fmt::format("{}[{}]", message.param("content"), at));
    const std::string type = part.need_text("type");
    const bool is_text = type == "text" || type == "input_text" || type == "output_text";
    if (!is_text && type != "refusal") part.wrong("type", fmt::format("is \"{}\": this model reads text only", type.substr(0, 60)));
    if (at++ > 0) text += '\n';
    text += part.need_text(is_text ? "text" : "refusal");
  }
  return text;
}

OrderedJson read_calls(const OrderedJson& list, const std::string& where) {
  OrderedJson calls = OrderedJson::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const Fields call(list[i], tool_fields(), fmt::format("{}[{}]", where, i));
    const Fields function(call.need("function"), function_fields(), call.param("function"));
    calls.push_back({{"id", call.text("id").value_or("")},
                     {"type", "function"},
                     {"function", {{"name", function.need_text("name")}, {"arguments", function.text("arguments").value_or("{}")}}}});
  }
  return calls;
}

OrderedJson read_message(const Fields& message) {
  static constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};
  const std::string role = message.need_text("role");
  if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles)) {
    message.wrong("role", fmt::format("must be system, developer, user, assistant or tool, found \"{}\"", role.substr(0, 60)));
  }
  OrderedJson out = {{"role", role}, {"content", read_content(message)}};
  const OrderedJson* calls = message.list("tool_calls");
  const bool has_calls = calls != nullptr && !calls->empty();
  if (out["content"].is_null() && !has_calls && !message.has("reasoning_content")) message.wrong("content", "is missing");
  if (const auto reasoning = message.text("reasoning_content"); reasoning && !reasoning->empty()) out["reasoning_content"] = *reasoning;
  if (has_calls) out["tool_calls"] = read_calls(*calls, message.param("tool_calls"));
  for (const char* name : {"tool_call_id", "name"}) {
    if (const auto text = message.text(name)) out[name] = *text;
  }
  return out;
}

std::vector<Tool> read_tools(const Fields& body) {
  std::vector<Tool> tools;
  const OrderedJson* list = body.list("tools");
  if (list == nullptr) return tools;
  for (size_t i = 0; i < list->size(); ++i) {
    const Fields tool((*list)[i], tool_fields(), fmt::format("tools[{}]", i));
    if (tool.need_text("type") != "function") tool.wrong("type", fmt::format("must be function, found \"{}\"", tool.text("type")->substr(0, 60)));
    const Fields function(tool.need("function"), function_fields(), tool.param("function"));
    const OrderedJson* parameters = function.object("parameters");
    tools.push_back({function.need_text("name"), function.text("description").value_or(""), parameters ? *parameters : OrderedJson::object()});
  }
  return tools;
}

FieldTable choice_fields() {
  static const std::vector<Field> rows = {{"function", FieldType::Object, "the function that must be called", function_fields}};
  return rows;
}

ToolChoice read_tool_choice(const Fields& body) {
  using Kind = ToolChoice::Kind;
  const OrderedJson* choice = body.any("tool_choice");
  if (choice == nullptr || *choice == "auto") return {};
  if (*choice == "none") return {Kind::None, {}};
  if (*choice == "required") return {Kind::Required, {}};
  if (!choice->is_object()) body.wrong("tool_choice", fmt::format("must be none, auto, required or name a function, found {}", shown(*choice)));
  const Fields named(*choice, choice_fields(), "tool_choice");
  return {Kind::Named, Fields(named.need("function"), function_fields(), "tool_choice.function").need_text("name")};
}

}  // namespace

FieldTable chat_fields() {
  static const std::vector<Field> rows = with_answer_fields({
      {"model", FieldType::Text, "the model's name; none: the one that is there"},
      {"messages", FieldType::List, "the conversation", chat_message_fields},
      {"stream", FieldType::Flag, "the answer comes as server-sent events"},
      {"stream_options", FieldType::Object, "of a stream", stream_option_fields},
      {"n", FieldType::Integer, "answers; the seed of each is one more than that of the one before", 1, 1000},
      {"max_completion_tokens", FieldType::Integer, "tokens of an answer at most", 0, 1e9},
      {"max_tokens", FieldType::Integer, "the same, as it was called before", -1, 1e9},
      {"n_predict", FieldType::Integer, "the same, as llama.cpp's server calls it", -2, 1e9},
      {"logprobs", FieldType::Flag, "log probabilities of the answer's tokens"},
      {"top_logprobs", FieldType::Integer, "… and of the likeliest at each place", 0, 20},
      {"response_format", FieldType::Object, "what the answer's text must be", format_fields},
      {"tools", FieldType::List, "functions that may be called", tool_fields},
      {"tool_choice", FieldType::TextOrObject, "none, auto, required, or {\"type\": \"function\", \"function\": {\"name\": …}}", choice_fields},
      {"parallel_tool_calls", FieldType::Flag, "false: the answer ends after one call"},
      {"reasoning_effort", FieldType::Text, "given to the chat template"},
      {"chat_template_kwargs", FieldType::Object, "more names for the chat template, such as {\"enable_thinking\": false}"},
      {"add_generation_prompt", FieldType::Flag, "false: the prompt ends with the last message"},
      {"continue_final_message", FieldType::Flag, "the answer goes on where the last message's text ends"},
  });
  return rows;
}

Conversation read_conversation(const Fields& body) {
  Conversation conversation;
  body.need("messages");
  const OrderedJson& messages = *body.list("messages");
  if (messages.empty()) body.wrong("messages", "must have a message");
  for (size_t i = 0; i < messages.size(); ++i) {
    conversation.messages.push_back(read_message(Fields(messages[i], chat_message_fields(), fmt::format("messages[{}]", i))));
  }
  if (read_tool_choice(body).kind != ToolChoice::Kind::None) conversation.tools = tools_json(read_tools(body));
  if (const OrderedJson* settings = body.object("chat_template_kwargs")) conversation.settings = *settings;
  if (const auto effort = body.text("reasoning_effort")) conversation.settings["reasoning_effort"] = *effort;
  conversation.add_generation_prompt = body.flag("add_generation_prompt").value_or(true);
  conversation.continue_final_message = body.flag("continue_final_message").value_or(false);
  if (conversation.continue_final_message && body.flag("add_generation_prompt").value_or(false)) {
    body.wrong("continue_final_message", "and 'add_generation_prompt' can't both be true: the answer goes on with a message or begins one");
  }
  return conversation;
}

ChatRequest read_chat_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, chat_fields());
  check_model(service, body.text("model").value_or(""));
  ChatRequest request;
  request.stream = body.flag("stream").value_or(false);
  if (const OrderedJson* options = body.object("stream_options")) {
    request.include_usage = Fields(*options, stream_option_fields(), "stream_options").flag("include_usage").value_or(false);
  }

  AnswerRequest& answer = request.answer;
  read_answer_fields(service, body, answer);
  answer.choices = static_cast<size_t>(body.integer("n").value_or(1));
  if (answer.choices > service.limits.answers) body.wrong("n", fmt::format("must be at most {}", service.limits.answers));
  auto most = body.integer("max_completion_tokens");
  if (!most) most = body.integer("max_tokens");
  if (!most) most = body.integer("n_predict");
  if (most && *most >= 0) answer.max_new_tokens = static_cast<size_t>(*most);
  answer.logprobs = body.flag("logprobs").value_or(false);
  answer.top_logprobs = static_cast<size_t>(body.integer("top_logprobs").value_or(0));
  if (answer.top_logprobs > 0 && !answer.logprobs) body.wrong("top_logprobs", "needs 'logprobs' to be true");
  answer.parallel_calls = body.flag("parallel_tool_calls").value_or(true);
  answer.forces_several = body.flag("parallel_tool_calls").value_or(false);
  if (const OrderedJson* format = body.object("response_format")) read_response_format(body, "response_format", *format, answer);

  answer.prompts.push_back(make_prompt(service, read_conversation(body)));
  apply_tools(read_tools(body), read_tool_choice(body), "tool_choice", answer);
  make_constraints(service, answer);
  return request;
}

}  // namespace moiety::server
