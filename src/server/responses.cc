// OpenAI's responses, plain and streamed.
#include "server/answering.h"
#include "server/ids.h"
#include "server/openai_json.h"
#include "server/protocols.h"
#include "server/response_request.h"
#include "server/response_store.h"

namespace moiety::server {
namespace {

using Kind = AnswerPart::Kind;

// One entry of a response's output as it grows: reasoning, a message, or a call.
struct Item {
  Kind kind;
  std::string id, text, name, call_id;

  OrderedJson part() const {
    if (kind == Kind::Reasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"}, {"text", text}, {"annotations", OrderedJson::array()}, {"logprobs", OrderedJson::array()}};
  }

  OrderedJson json(const char* status) const {
    if (kind == Kind::ToolCall) {
      return {{"id", id}, {"type", "function_call"}, {"status", status}, {"call_id", call_id}, {"name", name}, {"arguments", text}};
    }
    OrderedJson content = OrderedJson::array();
    if (!text.empty()) content.push_back(part());
    if (kind == Kind::Reasoning) {
      return {{"id", id}, {"type", "reasoning"}, {"summary", OrderedJson::array()}, {"content", std::move(content)}, {"status", status}};
    }
    return {{"id", id}, {"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}};
  }
};

Item begin_item(const AnswerPart& part) {
  const char* prefix = part.kind == Kind::ToolCall ? "fc_" : part.kind == Kind::Reasoning ? "rs_" : "msg_";
  return {part.kind, make_id(prefix), {}, part.name, part.id};
}

// What the conversation is once the answer is part of it.
OrderedJson with_answer(OrderedJson messages, const std::vector<Item>& items) {
  OrderedJson message = {{"role", "assistant"}, {"content", nullptr}};
  for (const Item& item : items) {
    if (item.kind == Kind::Content) message["content"] = item.text;
    if (item.kind == Kind::Reasoning) message["reasoning_content"] = item.text;
    if (item.kind == Kind::ToolCall) {
      message["tool_calls"].push_back({{"id", item.call_id}, {"type", "function"}, {"function", {{"name", item.name}, {"arguments", item.text}}}});
    }
  }
  if (message.at("content").is_null() && !message.contains("tool_calls")) message["content"] = "";
  messages.push_back(std::move(message));
  return messages;
}

class Response {
 public:
  Response(Service& service, const ResponseRequest& request) : service_(service), request_(request), id_(make_id("resp_")), created_(service.time()) {}

  Task<> answer(Exchange& exchange, Answers& answers) {
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      for (const AnswerPart& part : event->parts) add(part);
      if (event->ending) ending_ = std::move(event->ending);
    }
    const OrderedJson whole = ended_json();
    keep(whole);
    co_await exchange.answer(200, "application/json", to_text(whole));
  }

  Task<> stream(Exchange& exchange, Answers& answers) {
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      if (!exchange.has_begun()) co_await begin(exchange);
      for (const AnswerPart& part : event->parts) co_await stream_part(exchange, part);
      if (event->ending) ending_ = std::move(event->ending);
    }
    co_await end_item(exchange);
    OrderedJson whole = ended_json();
    keep(whole);
    co_await send_response(exchange, is_complete() ? "response.completed" : "response.incomplete", std::move(whole));
    co_await exchange.end_events();
  }

 private:
  bool is_complete() const { return ending_->reason != "length"; }

  bool is_next(const AnswerPart& part) const { return items_.empty() || items_.back().kind != part.kind || (part.kind == Kind::ToolCall && !part.goes_on); }
  void add(const AnswerPart& part) {
    if (is_next(part)) items_.push_back(begin_item(part));
    items_.back().text += part.text;
  }

  void keep(const OrderedJson& whole) const {
    if (request_.store) service_.responses->put(id_, with_answer(request_.messages, items_), whole);
  }

  OrderedJson json(const char* status) const {
    OrderedJson json = {{"id", id_}, {"object", "response"}, {"created_at", created_}, {"status", status}, {"error", nullptr},
                        {"incomplete_details", nullptr}, {"model", service_.model}, {"output", OrderedJson::array()}};
    for (const auto& [key, value] : request_.echoed.items()) json[key] = value;
    json["usage"] = nullptr;
    return json;
  }

  OrderedJson ended_json() const {
    const char* status = is_complete() ? "completed" : "incomplete";
    OrderedJson response = json(status);
    if (!is_complete()) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    for (const Item& item : items_) response["output"].push_back(item.json(&item == &items_.back() ? status : "completed"));
    Usage usage;
    usage.add(*ending_, true);
    response["usage"] = {{"input_tokens", usage.prompt_tokens},
                         {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                         {"output_tokens", usage.new_tokens},
                         {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
                         {"total_tokens", usage.prompt_tokens + usage.new_tokens}};
    return response;
  }

  // Every event has a type, which is its name as well, and a number.
  Task<> send(Exchange& exchange, std::string type, OrderedJson more) {
    OrderedJson event = {{"type", type}, {"sequence_number", sequence_++}};
    event.update(more);
    const std::string text = to_text(event);
    co_await exchange.send_event(text, type);
  }
  Task<> send_response(Exchange& exchange, std::string type, OrderedJson response) {
    OrderedJson event = OrderedJson::object();
    event["response"] = std::move(response);
    co_await send(exchange, std::move(type), std::move(event));
  }

  Task<> begin(Exchange& exchange) {
    co_await exchange.begin_events();
    co_await send_response(exchange, "response.created", json("in_progress"));
    co_await send_response(exchange, "response.in_progress", json("in_progress"));
  }

  // Which item an event is about, and of its content the part.
  OrderedJson of_item() const { return {{"item_id", items_.back().id}, {"output_index", items_.size() - 1}}; }
  OrderedJson of_part() const {
    OrderedJson json = of_item();
    json["content_index"] = 0;
    return json;
  }
  OrderedJson whole_item(const char* status) const { return {{"output_index", items_.size() - 1}, {"item", items_.back().json(status)}}; }
  // "response.output_text" and the like: what the events of an item's text begin with.
  std::string text_event(const char* end) const {
    const Kind kind = items_.back().kind;
    const char* what = kind == Kind::ToolCall ? "function_call_arguments" : kind == Kind::Reasoning ? "reasoning_text" : "output_text";
    return fmt::format("response.{}.{}", what, end);
  }

  Task<> stream_part(Exchange& exchange, const AnswerPart& part) {
    if (is_next(part)) {
      co_await end_item(exchange);
      items_.push_back(begin_item(part));
      is_open_ = true;
      co_await send(exchange, "response.output_item.added", whole_item("in_progress"));
      if (part.kind != Kind::ToolCall) {
        OrderedJson added = of_part();
        added["part"] = items_.back().part();
        co_await send(exchange, "response.content_part.added", std::move(added));
      }
    }
    items_.back().text += part.text;
    OrderedJson delta = part.kind == Kind::ToolCall ? of_item() : of_part();
    delta["delta"] = part.text;
    if (part.kind == Kind::Content) delta["logprobs"] = OrderedJson::array();
    co_await send(exchange, text_event("delta"), std::move(delta));
  }

  Task<> end_item(Exchange& exchange) {
    if (!std::exchange(is_open_, false)) co_return;
    const Item& item = items_.back();
    if (item.kind == Kind::ToolCall) {
      OrderedJson done = of_item();
      done["name"] = item.name;
      done["arguments"] = item.text;
      co_await send(exchange, text_event("done"), std::move(done));
    } else {
      OrderedJson done = of_part();
      done["text"] = item.text;
      if (item.kind == Kind::Content) done["logprobs"] = OrderedJson::array();
      co_await send(exchange, text_event("done"), std::move(done));
      OrderedJson part = of_part();
      part["part"] = item.part();
      co_await send(exchange, "response.content_part.done", std::move(part));
    }
    co_await send(exchange, "response.output_item.done", whole_item("completed"));
  }

  Service& service_;
  const ResponseRequest& request_;
  std::string id_;
  int64_t created_;
  std::vector<Item> items_;
  bool is_open_ = false;
  std::optional<Ending> ending_;
  int64_t sequence_ = 0;
};

std::string id_in(const Exchange& exchange) { return exchange.request().path.substr(std::string_view("/v1/responses/").size()); }

HttpError not_kept() { return HttpError(404, "there is no response of this id here (any more)", "response_not_found"); }

}  // namespace

Task<> responses(Service& service, Exchange& exchange) { return answer_by<Response>(service, exchange, read_response_request); }

Task<> fetch_response(Service& service, Exchange& exchange) {
  const std::optional<std::string> found = service.responses->response(id_in(exchange));
  if (!found) throw not_kept();
  co_await exchange.answer(200, "application/json", *found);
}

Task<> delete_response(Service& service, Exchange& exchange) {
  const std::string id = id_in(exchange);
  if (!service.responses->remove(id)) throw not_kept();
  const OrderedJson json = {{"id", id}, {"object", "response"}, {"deleted", true}};
  co_await exchange.answer(200, "application/json", to_text(json));
}

Task<> count_response_tokens(Service& service, Exchange& exchange) {
  const auto count = [](const Service& s, const OrderedJson& body) { return read_response_request(s, body).answer.prompts[0].tokens.size(); };
  return answer_count(service, exchange, count, input_tokens_json);
}

}  // namespace moiety::server
