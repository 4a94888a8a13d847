// Completions of plain text in the words of llama.cpp's server (its README, "POST /completion").
#include "server/answer_fields.h"
#include "server/answering.h"
#include "server/conversation.h"
#include "server/llama_json.h"
#include "server/openai_json.h"
#include "server/prompt_field.h"
#include "server/protocols.h"

namespace moiety::server {
namespace {

struct CompletionRequest {
  AnswerRequest answer;
  std::vector<PlainPrompt> prompts;
  OrderedJson settings;
  bool stream = false, returns_tokens = false;
};

CompletionRequest read_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, llama_completion_fields());
  check_model(service, body.text("model").value_or(""));
  CompletionRequest request;
  AnswerRequest& answer = request.answer;
  read_answer_fields(service, body, answer);
  request.stream = body.flag("stream").value_or(false);
  request.returns_tokens = body.flag("return_tokens").value_or(false) || request.stream;
  if (const auto most = body.integer("n_predict"); most && *most >= 0) answer.max_new_tokens = static_cast<size_t>(*most);
  answer.top_logprobs = static_cast<size_t>(body.integer("n_probs").value_or(0));
  answer.logprobs = answer.top_logprobs > 0;
  answer.shows_tokens = request.returns_tokens;

  request.prompts = read_prompts(service, body, "prompt");
  answer.prompts = continued(service, request.prompts);
  make_constraints(service, answer);
  request.settings = generation_settings_json(service, answer);
  return request;
}

OrderedJson token_ids(const std::vector<ShownToken>& tokens) {
  OrderedJson ids = OrderedJson::array();
  for (const ShownToken& shown : tokens) ids.push_back(shown.token.token);
  return ids;
}

OrderedJson probability_json(const text::Tokenizer& tokenizer, int32_t token, float logprob) {
  OrderedJson json = {{"id", token}};
  json.update(logprob_json(tokenizer, token, logprob));
  return json;
}

OrderedJson probabilities_json(const text::Tokenizer& tokenizer, const std::vector<ShownToken>& tokens) {
  OrderedJson list = OrderedJson::array();
  for (const ShownToken& shown : tokens) {
    OrderedJson json = probability_json(tokenizer, shown.token.token, shown.token.logprob);
    json["top_logprobs"] = OrderedJson::array();
    for (const engine::TokenLogprob& likely : shown.token.top) {
      json["top_logprobs"].push_back(probability_json(tokenizer, likely.token, likely.logprob));
    }
    list.push_back(std::move(json));
  }
  return list;
}

const char* stop_type(const Ending& ending) {
  if (ending.stop_string) return "word";
  return ending.reason == "length" ? "limit" : "eos";
}

class Completion {
 public:
  Completion(const Service& service, const CompletionRequest& request) : service_(service), request_(request) {}

  // One object, or for several prompts a list of them.
  Task<> answer(Exchange& exchange, Answers& answers) {
    const std::vector<Answer> all = co_await answers.all();
    OrderedJson list = OrderedJson::array();
    for (const Answer& answer : all) {
      OrderedJson json = piece_json(list.size(), answer.content, answer.tokens);
      if (!request_.returns_tokens) json["tokens"] = OrderedJson::array();
      json.update(end_json(list.size(), answer.ending));
      json["has_new_line"] = answer.content.find('\n') != std::string::npos;
      list.push_back(std::move(json));
    }
    co_await exchange.answer(200, "application/json", to_text(list.size() == 1 ? list[0] : list));
  }

  Task<> stream(Exchange& exchange, Answers& answers) {
    std::vector<bool> has_new_line(answers.size());
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      if (!exchange.has_begun()) co_await exchange.begin_events();
      std::string text;
      for (const AnswerPart& part : event->parts) text += part.text;
      if (text.find('\n') != std::string::npos) has_new_line[event->choice] = true;
      if (!text.empty() || !event->tokens.empty()) {
        OrderedJson json = piece_json(event->choice, text, event->tokens);
        json["stop"] = false;
        co_await exchange.send_event(to_text(json));
      }
      if (!event->ending) continue;
      OrderedJson last = {{"index", event->choice}, {"content", ""}, {"tokens", OrderedJson::array()}};
      last.update(end_json(event->choice, *event->ending));
      last["has_new_line"] = static_cast<bool>(has_new_line[event->choice]);
      co_await exchange.send_event(to_text(last));
    }
    co_await exchange.end_events();
  }

 private:
  OrderedJson piece_json(size_t index, const std::string& text, const std::vector<ShownToken>& tokens) const {
    OrderedJson json = {{"index", index}, {"content", text}, {"tokens", token_ids(tokens)}};
    if (request_.answer.logprobs) json["completion_probabilities"] = probabilities_json(service_.tokenizer, tokens);
    return json;
  }

  OrderedJson end_json(size_t index, const Ending& ending) const {
    return {{"stop", true},
            {"model", service_.model},
            {"tokens_predicted", ending.outcome.new_tokens},
            {"tokens_evaluated", ending.outcome.prompt_tokens},
            {"tokens_cached", ending.outcome.cached_tokens},
            {"generation_settings", request_.settings},
            {"prompt", request_.prompts[index].text},
            {"truncated", is_truncated(ending.outcome)},
            {"stop_type", stop_type(ending)},
            {"stopping_word", ending.stop_string.value_or("")},
            {"timings", timings_json(ending)}};
  }

  // Whether the context ended it: no more is computed than it has room for, though more was wanted.
  bool is_truncated(const engine::Outcome& outcome) const {
    const size_t otherwise = service_.limits.new_tokens == 0 ? SIZE_MAX : service_.limits.new_tokens;
    return outcome.stop == engine::Outcome::Stop::Length && outcome.new_tokens < request_.answer.max_new_tokens.value_or(otherwise);
  }

  const Service& service_;
  const CompletionRequest& request_;
};

}  // namespace

FieldTable llama_completion_fields() {
  static const std::vector<Field> rows = with_answer_fields({
      {"model", FieldType::Text, "the model's name; none: the one that is there"},
      {"prompt", FieldType::TextOrList, "a text, a list of token ids and texts, or a list of texts or of such lists"},
      {"n_predict", FieldType::Integer, "tokens of the answer at most; -1: as many as there is room for", -2, 1e9},
      {"stream", FieldType::Flag, "the answer comes as server-sent events"},
      {"n_probs", FieldType::Integer, "log probabilities of so many likeliest tokens at each place, and of the one that was drawn", 0, 20},
      {"return_tokens", FieldType::Flag, "the answer's token ids, too"},
  });
  return rows;
}

Task<> llama_completion(Service& service, Exchange& exchange) { return answer_by<Completion>(service, exchange, read_request); }

}  // namespace moiety::server
