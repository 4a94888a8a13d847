// OpenAI's chat completions, plain and streamed.
#include "server/answering.h"
#include "server/chat_request.h"
#include "server/ids.h"
#include "server/openai_json.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

using Kind = AnswerPart::Kind;

OrderedJson call_json(const AnswerPart& call) {
  return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.text}}}};
}

OrderedJson message_json(const Answer& answer) {
  OrderedJson message = {{"role", "assistant"}, {"content", answer.content}, {"refusal", nullptr}};
  if (answer.content.empty() && !answer.calls.empty()) message["content"] = nullptr;
  if (!answer.reasoning.empty()) message["reasoning_content"] = answer.reasoning;
  for (const AnswerPart& call : answer.calls) message["tool_calls"].push_back(call_json(call));
  return message;
}

class Chat {
 public:
  Chat(const Service& service, const ChatRequest& request)
      : service_(service), request_(request), id_(make_id("chatcmpl-")), created_(service.time()) {}

  Task<> answer(Exchange& exchange, Answers& answers) {
    const std::vector<Answer> all = co_await answers.all();
    OrderedJson json = head("chat.completion");
    Usage usage;
    for (size_t i = 0; i < all.size(); ++i) {
      OrderedJson logprobs = request_.answer.logprobs ? logprobs_json(service_.tokenizer, all[i].tokens) : OrderedJson();
      json["choices"].push_back({{"index", i},
                                 {"message", message_json(all[i])},
                                 {"logprobs", std::move(logprobs)},
                                 {"finish_reason", all[i].ending.reason}});
      usage.add(all[i].ending, i == 0);
    }
    json["usage"] = usage_json(usage);
    json["timings"] = timings_json(all[0].ending);
    co_await exchange.answer(200, "application/json", to_text(json));
  }

  Task<> stream(Exchange& exchange, Answers& answers) {
    Usage usage;
    OrderedJson timings;
    std::vector<bool> begun(answers.size());
    calls_.resize(answers.size());
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      if (!exchange.has_begun()) co_await exchange.begin_events();
      if (!begun[event->choice]) co_await exchange.send_event(first_chunk(event->choice));
      begun[event->choice] = true;
      co_await send_parts(exchange, *event);
      if (!event->ending) continue;
      usage.add(*event->ending, event->choice == 0);
      OrderedJson last = chunk(event->choice, OrderedJson::object());
      last["choices"][0]["finish_reason"] = event->ending->reason;
      last["timings"] = timings = timings_json(*event->ending);
      co_await exchange.send_event(to_text(last));
    }
    if (request_.include_usage) {
      OrderedJson last = head("chat.completion.chunk");
      last["choices"] = OrderedJson::array();
      last["usage"] = usage_json(usage);
      last["timings"] = std::move(timings);
      co_await exchange.send_event(to_text(last));
    }
    co_await exchange.send_event("[DONE]");
    co_await exchange.end_events();
  }

 private:
  OrderedJson head(const char* object) const {
    return {{"id", id_}, {"object", object}, {"created", created_}, {"model", service_.model}, {"system_fingerprint", "moiety"}};
  }

  OrderedJson chunk(size_t choice, OrderedJson delta) const {
    OrderedJson json = head("chat.completion.chunk");
    json["choices"].push_back({{"index", choice}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}});
    if (request_.include_usage) json["usage"] = nullptr;
    return json;
  }

  std::string first_chunk(size_t choice) const { return to_text(chunk(choice, {{"role", "assistant"}, {"content", ""}})); }

  // The log probabilities go with the first of the parts.
  Task<> send_parts(Exchange& exchange, const AnswerEvent& event) {
    std::vector<OrderedJson> deltas;
    for (const AnswerPart& part : event.parts) {
      if (part.kind == Kind::ToolCall) {
        if (!part.goes_on) ++calls_[event.choice];
        const size_t index = calls_[event.choice] - 1;
        if (!part.goes_on) {
          OrderedJson begin = call_json(part);
          begin["function"]["arguments"] = "";
          OrderedJson call = {{"index", index}};
          call.update(begin);
          deltas.push_back({{"tool_calls", OrderedJson::array({std::move(call)})}});
        }
        deltas.push_back({{"tool_calls", OrderedJson::array({{{"index", index}, {"function", {{"arguments", part.text}}}}})}});
      } else {
        deltas.push_back({{part.kind == Kind::Reasoning ? "reasoning_content" : "content", part.text}});
      }
    }
    if (deltas.empty() && !event.tokens.empty()) deltas.push_back({{"content", ""}});
    for (size_t i = 0; i < deltas.size(); ++i) {
      OrderedJson json = chunk(event.choice, std::move(deltas[i]));
      if (i == 0 && request_.answer.logprobs) json["choices"][0]["logprobs"] = logprobs_json(service_.tokenizer, event.tokens);
      co_await exchange.send_event(to_text(json));
    }
  }

  const Service& service_;
  const ChatRequest& request_;
  std::string id_;
  int64_t created_;
  std::vector<size_t> calls_;  // so far, by choice
};

}  // namespace

Task<> chat_completions(Service& service, Exchange& exchange) { return answer_by<Chat>(service, exchange, read_chat_request); }

Task<> count_chat_tokens(Service& service, Exchange& exchange) {
  const auto count = [](const Service& s, const OrderedJson& body) { return read_chat_request(s, body).answer.prompts[0].tokens.size(); };
  return answer_count(service, exchange, count, input_tokens_json);
}

}  // namespace moiety::server
