// Anthropic's messages, plain and streamed.
#include "server/answering.h"
#include "server/ids.h"
#include "server/message_request.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

using Kind = AnswerPart::Kind;

OrderedJson usage_json(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.new_tokens}};
}

OrderedJson call_json(const AnswerPart& call, OrderedJson input) {
  return {{"type", "tool_use"}, {"id", "toolu_" + call.id.substr(call.id.find('_') + 1)}, {"name", call.name}, {"input", std::move(input)}};
}

std::string stop_reason(const Ending& ending) {
  if (ending.reason == "length") return "max_tokens";
  if (ending.reason == "tool_calls") return "tool_use";
  return ending.stop_string ? "stop_sequence" : "end_turn";
}

OrderedJson stop_sequence(const Ending& ending) {
  const bool is_why = ending.reason == "stop" && ending.stop_string;
  return is_why ? OrderedJson(*ending.stop_string) : OrderedJson();
}

OrderedJson message_json(const Service& service) {
  return {{"id", make_id("msg_")}, {"type", "message"}, {"role", "assistant"}, {"model", service.model}, {"content", OrderedJson::array()},
          {"stop_reason", nullptr}, {"stop_sequence", nullptr}};
}

// Blocks one after the other: each begins, grows and ends before the next.
class MessageStream {
 public:
  explicit MessageStream(Exchange& exchange) : exchange_(exchange) {}

  Task<> begin(OrderedJson message) {
    co_await exchange_.begin_events();
    OrderedJson start = event("message_start");
    start["message"] = std::move(message);
    co_await send(std::move(start));
    co_await send(event("ping"));
  }

  Task<> add(const AnswerPart& part) {
    const bool is_next = part.kind == Kind::ToolCall && !part.goes_on;
    if (is_next || !open_ || *open_ != part.kind) {
      co_await close();
      co_await open(part);
    }
    co_await send(delta(part));
  }

  Task<> end(const Ending& ending) {
    co_await close();
    Usage usage;
    usage.add(ending, true);
    OrderedJson last = event("message_delta");
    last["delta"] = {{"stop_reason", stop_reason(ending)}, {"stop_sequence", stop_sequence(ending)}};
    last["usage"] = usage_json(usage);
    co_await send(std::move(last));
    co_await send(event("message_stop"));
    co_await exchange_.end_events();
  }

 private:
  static OrderedJson event(const char* type) { return {{"type", type}}; }
  OrderedJson block_event(const char* type) const { return {{"type", type}, {"index", index_}}; }

  Task<> send(OrderedJson json) {
    const std::string text = to_text(json), name = json.at("type");
    co_await exchange_.send_event(text, name);
  }

  Task<> open(const AnswerPart& part) {
    OrderedJson start = block_event("content_block_start");
    start["content_block"] = empty_block(part);
    open_ = part.kind;
    co_await send(std::move(start));
  }

  Task<> close() {
    if (!open_) co_return;
    if (*open_ == Kind::Reasoning) {
      OrderedJson signature = block_event("content_block_delta");
      signature["delta"] = {{"type", "signature_delta"}, {"signature", ""}};
      co_await send(std::move(signature));
    }
    co_await send(block_event("content_block_stop"));
    open_.reset();
    ++index_;
  }

  static OrderedJson empty_block(const AnswerPart& part) {
    if (part.kind == Kind::ToolCall) return call_json(part, OrderedJson::object());
    if (part.kind == Kind::Reasoning) return {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
    return {{"type", "text"}, {"text", ""}};
  }

  OrderedJson delta(const AnswerPart& part) const {
    OrderedJson json = block_event("content_block_delta");
    if (part.kind == Kind::ToolCall) json["delta"] = {{"type", "input_json_delta"}, {"partial_json", part.text}};
    if (part.kind == Kind::Reasoning) json["delta"] = {{"type", "thinking_delta"}, {"thinking", part.text}};
    if (part.kind == Kind::Content) json["delta"] = {{"type", "text_delta"}, {"text", part.text}};
    return json;
  }

  Exchange& exchange_;
  std::optional<Kind> open_;
  size_t index_ = 0;
};

class Message {
 public:
  Message(const Service& service, const MessageRequest& request) : service_(service), request_(request) {}

  Task<> answer(Exchange& exchange, Answers& answers) {
    const std::vector<Answer> all = co_await answers.all();
    const Answer& answer = all[0];
    OrderedJson json = message_json(service_);
    OrderedJson& content = json["content"];
    if (!answer.reasoning.empty()) content.push_back({{"type", "thinking"}, {"thinking", answer.reasoning}, {"signature", ""}});
    if (!answer.content.empty()) content.push_back({{"type", "text"}, {"text", answer.content}});
    for (const AnswerPart& call : answer.calls) content.push_back(call_json(call, parse_ordered_json(call.text, "arguments")));
    json["stop_reason"] = stop_reason(answer.ending);
    json["stop_sequence"] = stop_sequence(answer.ending);
    Usage usage;
    usage.add(answer.ending, true);
    json["usage"] = usage_json(usage);
    co_await exchange.answer(200, "application/json", to_text(json));
  }

  Task<> stream(Exchange& exchange, Answers& answers) {
    MessageStream stream(exchange);
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      if (!exchange.has_begun()) {
        OrderedJson message = message_json(service_);
        message["usage"] = usage_json({.prompt_tokens = request_.answer.prompts[0].tokens.size()});
        co_await stream.begin(std::move(message));
      }
      for (const AnswerPart& part : event->parts) co_await stream.add(part);
      if (event->ending) co_await stream.end(*event->ending);
    }
  }

 private:
  const Service& service_;
  const MessageRequest& request_;
};

}  // namespace

Task<> messages(Service& service, Exchange& exchange) { return answer_by<Message>(service, exchange, read_message_request); }

Task<> count_message_tokens(Service& service, Exchange& exchange) {
  return answer_count(service, exchange, count_tokens, [](size_t tokens) { return OrderedJson{{"input_tokens", tokens}}; });
}

}  // namespace moiety::server
