#include <algorithm>

#include "base/json.h"
#include "cli/conversation.h"
#include "server/http_client.h"

namespace moiety::cli {
namespace {

using Kind = text::ReplyPart::Kind;

size_t count_in(const OrderedJson& object, const char* name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_number_unsigned() ? at->get<size_t>() : 0;
}
std::string text_in(const OrderedJson& object, const char* name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

// An answer that comes as the events of /v1/chat/completions.
class AnswerEvents {
 public:
  AnswerEvents(const Conversation::Show& show, ChatAnswer& answer) : show_(show), answer_(answer) {}

  void take(const OrderedJson& event) {
    require(event.is_object(), "the server sent an event that is no object");
    if (event.contains("error")) fail(ErrorKind::Input, "the server: {}", text_in(event["error"], "message"));
    if (event.contains("usage") && event["usage"].is_object()) take_usage(event["usage"]);
    if (!event.contains("choices") || !event["choices"].is_array() || event["choices"].empty()) return;
    const OrderedJson& choice = event["choices"][0];
    if (const std::string reason = text_in(choice, "finish_reason"); !reason.empty()) answer_.finish_reason = reason;
    const OrderedJson delta = choice.value("delta", OrderedJson::object());
    give(Kind::Reasoning, text_in(delta, "reasoning_content"));
    give(Kind::Content, text_in(delta, "content"));
    if (delta.contains("tool_calls") && delta["tool_calls"].is_array()) {
      for (const OrderedJson& piece : delta["tool_calls"]) take_call(piece);
    }
  }
  void finish() {
    for (text::ToolCall& call : calls_) {
      if (!Json::accept(call.arguments)) call.arguments = "{}";  // cut off
    }
    if (calls_.empty()) return;
    const text::ReplyPart part{Kind::ToolCalls, "", calls_};
    answer_.reply.add(part);
    show_(part);
  }

 private:
  void give(Kind kind, const std::string& text) {
    if (text.empty()) return;
    const text::ReplyPart part{kind, text, {}};
    answer_.reply.add(part);
    show_(part);
  }
  void take_call(const OrderedJson& piece) {
    constexpr size_t kMost = 1000;
    const size_t index = std::min(count_in(piece, "index"), kMost);
    if (index >= calls_.size()) calls_.resize(index + 1);
    const OrderedJson function = piece.value("function", OrderedJson::object());
    calls_[index].name += text_in(function, "name");
    calls_[index].arguments += text_in(function, "arguments");
  }
  void take_usage(const OrderedJson& usage) {
    answer_.prompt_tokens = count_in(usage, "prompt_tokens");
    answer_.completion_tokens = count_in(usage, "completion_tokens");
    if (usage.contains("prompt_tokens_details")) answer_.cached_tokens = count_in(usage["prompt_tokens_details"], "cached_tokens");
  }

  const Conversation::Show& show_;
  ChatAnswer& answer_;
  std::vector<text::ToolCall> calls_;
};

class RemoteConversation : public Conversation {
 public:
  explicit RemoteConversation(const ChatArguments& arguments)
      : Conversation(arguments), arguments_(arguments), client_(arguments.model.model, arguments.key.value_or("")) {}

  ChatAnswer answer(const Show& show) override {
    ChatAnswer answer{.finish_reason = "cancelled"};
    AnswerEvents events(show, answer);
    client_.post_for_events("/v1/chat/completions", to_text(request()), [&](std::string_view data) {
      if (data != "[DONE]") events.take(parse_ordered_json(data, "an event of the server"));
      return stopped == 0;
    });
    events.finish();
    answer.reply.trim();
    remember(answer.reply, "reasoning_content");
    return answer;
  }

 private:
  OrderedJson request() const {
    const SamplingArguments& sampling = arguments_.sampling;
    OrderedJson body = {{"messages", messages_}, {"stream", true}, {"stream_options", {{"include_usage", true}}}, {"max_tokens", arguments_.count}};
    body["temperature"] = sampling.greedy ? 0 : sampling.chosen.temperature;
    body["top_p"] = sampling.chosen.top_p;
    body["top_k"] = sampling.chosen.top_k;
    body["min_p"] = sampling.chosen.min_p;
    body["repetition_penalty"] = sampling.chosen.repetition_penalty;
    body["presence_penalty"] = sampling.chosen.presence_penalty;
    body["frequency_penalty"] = sampling.chosen.frequency_penalty;
    if (sampling.seed) body["seed"] = *sampling.seed;
    OrderedJson settings = context_;
    if (settings.contains("tools")) body["tools"] = settings["tools"];
    settings.erase("tools");
    if (!settings.empty()) body["chat_template_kwargs"] = settings;
    return body;
  }

  const ChatArguments& arguments_;
  server::HttpClient client_;
};

}  // namespace

std::unique_ptr<Conversation> remote_conversation(const ChatArguments& arguments) {
  return std::make_unique<RemoteConversation>(arguments);
}

}  // namespace moiety::cli
