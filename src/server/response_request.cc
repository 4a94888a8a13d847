#include "server/response_request.h"

#include "server/answer_fields.h"
#include "server/protocols.h"
#include "server/response_store.h"
#include "server/tools.h"

namespace moiety::server {
namespace {

FieldTable part_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "input_text, output_text, refusal, reasoning_text or summary_text"},
      {"text", FieldType::Text, "the part's text"},
      {"refusal", FieldType::Text, "of a refusal"},
  };
  return rows;
}

FieldTable item_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "message (also where there is no type), function_call, function_call_output or reasoning"},
      {"role", FieldType::Text, "of a message: user, assistant, system or developer"},
      {"content", FieldType::TextOrList, "of a message or of reasoning: a text, or parts", part_fields},
      {"summary", FieldType::List, "of reasoning", part_fields},
      {"call_id", FieldType::Text, "of a call and of its output"},
      {"name", FieldType::Text, "of a call: the function's"},
      {"arguments", FieldType::Text, "of a call: JSON"},
      {"output", FieldType::TextOrList, "of a call's output: a text, or parts", part_fields},
  };
  return rows;
}

FieldTable tool_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "function"},
      {"name", FieldType::Text, "what a call names"},
      {"description", FieldType::Text, "what it does"},
      {"parameters", FieldType::Object, "a JSON schema of its arguments"},
  };
  return rows;
}

FieldTable choice_fields() {
  static const std::vector<Field> rows = {
      {"type", FieldType::Text, "function"},
      {"name", FieldType::Text, "of the function that must be called"},
  };
  return rows;
}

FieldTable text_fields() {
  static const std::vector<Field> rows = {{"format", FieldType::Object, "what the answer's text must be", format_fields}};
  return rows;
}

FieldTable reasoning_fields() {
  static const std::vector<Field> rows = {{"effort", FieldType::Text, "given to the chat template as reasoning_effort"}};
  return rows;
}

// A text, or the texts of parts, one a line.
std::string read_text(const Fields& item, const char* name) {
  const OrderedJson* value = item.any(name);
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  std::string text;
  const OrderedJson& list = *item.list(name);
  for (size_t i = 0; i < list.size(); ++i) {
    const Fields part(list[i], part_fields(), fmt::format("{}[{}]", item.param(name), i));
    const std::string type = part.need_text("type");
    const bool is_text = type == "input_text" || type == "output_text" || type == "text" || type == "reasoning_text" || type == "summary_text";
    if (!is_text && type != "refusal") part.wrong("type", fmt::format("is \"{}\": this model reads text only", type.substr(0, 60)));
    if (i > 0) text += '\n';
    text += part.need_text(is_text ? "text" : "refusal");
  }
  return text;
}

// Items become messages: what an assistant thinks, says and calls in a row is one.
class Turns {
 public:
  explicit Turns(OrderedJson& messages) : messages_(messages) {}

  void add(const Fields& item) {
    const std::string type = item.text("type").value_or("message");
    if (type == "message") {
      add_message(item);
    } else if (type == "function_call") {
      assistant()["tool_calls"].push_back(
          {{"id", item.need_text("call_id")}, {"type", "function"}, {"function", {{"name", item.need_text("name")}, {"arguments", item.need_text("arguments")}}}});
    } else if (type == "function_call_output") {
      messages_.push_back({{"role", "tool"}, {"tool_call_id", item.need_text("call_id")}, {"content", read_text(item, "output")}});
    } else if (type == "reasoning") {
      std::string text = read_text(item, "content");
      if (text.empty()) text = read_text(item, "summary");
      if (!text.empty()) messages_.push_back({{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", text}});
    } else {
      item.wrong("type", fmt::format("must be message, function_call, function_call_output or reasoning, found \"{}\"", type.substr(0, 60)));
    }
  }

 private:
  void add_message(const Fields& item) {
    const std::string role = item.need_text("role");
    if (role != "user" && role != "assistant" && role != "system" && role != "developer") {
      item.wrong("role", fmt::format("must be user, assistant, system or developer, found \"{}\"", role.substr(0, 60)));
    }
    item.need("content");
    std::string text = read_text(item, "content");
    if (role == "assistant" && is_open() && messages_.back().at("content").is_null()) {
      messages_.back()["content"] = std::move(text);
    } else {
      messages_.push_back({{"role", role}, {"content", std::move(text)}});
    }
  }

  bool is_open() const { return !messages_.empty() && messages_.back().at("role") == "assistant"; }
  OrderedJson& assistant() {
    if (!is_open()) messages_.push_back({{"role", "assistant"}, {"content", nullptr}});
    return messages_.back();
  }

  OrderedJson& messages_;
};

std::vector<Tool> read_tools(const Fields& body) {
  std::vector<Tool> tools;
  const OrderedJson* list = body.list("tools");
  if (list == nullptr) return tools;
  for (size_t i = 0; i < list->size(); ++i) {
    const Fields tool((*list)[i], tool_fields(), fmt::format("tools[{}]", i));
    if (tool.need_text("type") != "function") tool.wrong("type", "must be function: this server has no tools of its own");
    const OrderedJson* parameters = tool.object("parameters");
    tools.push_back({tool.need_text("name"), tool.text("description").value_or(""), parameters != nullptr ? *parameters : OrderedJson::object()});
  }
  return tools;
}

ToolChoice read_tool_choice(const Fields& body) {
  using Kind = ToolChoice::Kind;
  const OrderedJson* choice = body.any("tool_choice");
  if (choice == nullptr || *choice == "auto") return {};
  if (*choice == "none") return {Kind::None, {}};
  if (*choice == "required") return {Kind::Required, {}};
  if (!choice->is_object()) body.wrong("tool_choice", fmt::format("must be none, auto, required or name a function, found {}", shown(*choice)));
  const Fields named(*choice, choice_fields(), "tool_choice");
  if (named.need_text("type") != "function") named.wrong("type", "must be function: this server has no tools of its own");
  return {Kind::Named, named.need_text("name")};
}

OrderedJson read_messages(const Service& service, const Fields& body) {
  OrderedJson messages = OrderedJson::array();
  if (const auto previous = body.text("previous_response_id")) {
    auto found = service.responses->messages(*previous);
    if (!found) {
      throw HttpError(404, "'previous_response_id' names a response that is not kept here (any more)", "previous_response_not_found", "previous_response_id");
    }
    messages = std::move(*found);
  }
  const OrderedJson& input = body.need("input");
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
    return messages;
  }
  if (!input.is_array()) body.wrong("input", fmt::format("must be a text or a list of items, found {}", shown(input)));
  Turns turns(messages);
  for (size_t i = 0; i < input.size(); ++i) turns.add(Fields(input[i], item_fields(), fmt::format("input[{}]", i)));
  if (messages.empty()) body.wrong("input", "must have an item");
  return messages;
}

// What clients expect to find again.
OrderedJson echoed_fields(const Fields& body, const AnswerRequest& answer) {
  const auto given = [&](const char* name, OrderedJson otherwise) {
    const OrderedJson* value = body.any(name);
    return value == nullptr ? otherwise : *value;
  };
  return {{"instructions", given("instructions", nullptr)},
          {"max_output_tokens", given("max_output_tokens", nullptr)},
          {"metadata", given("metadata", OrderedJson::object())},
          {"parallel_tool_calls", answer.parallel_calls},
          {"previous_response_id", given("previous_response_id", nullptr)},
          {"reasoning", given("reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
          {"store", body.flag("store").value_or(true)},
          {"temperature", answer.sampling.temperature},
          {"text", given("text", {{"format", {{"type", "text"}}}})},
          {"tool_choice", given("tool_choice", "auto")},
          {"tools", given("tools", OrderedJson::array())},
          {"top_p", answer.sampling.top_p},
          {"truncation", "disabled"}};
}

}  // namespace

FieldTable response_fields() {
  static const std::vector<Field> rows = with_answer_fields({
      {"model", FieldType::Text, "the model's name; none: the one that is there"},
      {"input", FieldType::TextOrList, "a text, or items: messages, calls and their outputs, reasoning", item_fields},
      {"instructions", FieldType::Text, "a system message for this response alone"},
      {"previous_response_id", FieldType::Text, "the response that this one goes on from"},
      {"store", FieldType::Flag, "whether this one is kept for others to go on from"},
      {"stream", FieldType::Flag, "the answer comes as server-sent events"},
      {"max_output_tokens", FieldType::Integer, "tokens of the answer at most", 1, 1e9},
      {"tools", FieldType::List, "functions that may be called", tool_fields},
      {"tool_choice", FieldType::TextOrObject, "none, auto, required, or {\"type\": \"function\", \"name\": …}", choice_fields},
      {"parallel_tool_calls", FieldType::Flag, "false: the answer ends after one call"},
      {"text", FieldType::Object, "what the answer's text must be", text_fields},
      {"reasoning", FieldType::Object, "how the model thinks", reasoning_fields},
      {"metadata", FieldType::Object, "repeated in the response"},
      {"background", FieldType::Flag, "true is refused: answers are not made while nobody waits"},
      {"chat_template_kwargs", FieldType::Object, "more names for the chat template"},
  });
  return rows;
}

ResponseRequest read_response_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, response_fields());
  check_model(service, body.text("model").value_or(""));
  ResponseRequest request;
  request.stream = body.flag("stream").value_or(false);
  request.store = body.flag("store").value_or(true);
  if (body.flag("background").value_or(false)) body.wrong("background", "is not supported: answers are not made while nobody waits");

  AnswerRequest& answer = request.answer;
  read_answer_fields(service, body, answer);
  if (const auto most = body.integer("max_output_tokens")) answer.max_new_tokens = static_cast<size_t>(*most);
  answer.parallel_calls = body.flag("parallel_tool_calls").value_or(true);
  answer.forces_several = body.flag("parallel_tool_calls").value_or(false);
  if (const OrderedJson* text = body.object("text")) {
    const Fields fields(*text, text_fields(), "text");
    if (const OrderedJson* format = fields.object("format")) read_response_format(fields, "format", *format, answer);
  }

  Conversation conversation{.messages = OrderedJson::array()};
  if (const auto instructions = body.text("instructions")) conversation.messages.push_back({{"role", "system"}, {"content", *instructions}});
  request.messages = read_messages(service, body);
  for (const OrderedJson& message : request.messages) conversation.messages.push_back(message);
  const std::vector<Tool> tools = read_tools(body);
  const ToolChoice choice = read_tool_choice(body);
  if (choice.kind != ToolChoice::Kind::None) conversation.tools = tools_json(tools);
  if (const OrderedJson* settings = body.object("chat_template_kwargs")) conversation.settings = *settings;
  if (const OrderedJson* reasoning = body.object("reasoning")) {
    if (const auto effort = Fields(*reasoning, reasoning_fields(), "reasoning").text("effort")) conversation.settings["reasoning_effort"] = *effort;
  }
  answer.prompts.push_back(make_prompt(service, conversation));
  apply_tools(tools, choice, "tool_choice", answer);
  make_constraints(service, answer);
  request.echoed = echoed_fields(body, answer);
  return request;
}

}  // namespace moiety::server
