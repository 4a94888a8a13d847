// OpenAI's completions of plain text, the older protocol.
#include <algorithm>
#include <numeric>

#include "server/answer_fields.h"
#include "server/answering.h"
#include "server/conversation.h"
#include "server/ids.h"
#include "server/openai_json.h"
#include "server/prompt_field.h"
#include "server/protocols.h"
#include "text/text_stream.h"
#include "text/utf8.h"

namespace moiety::server {
namespace {

FieldTable stream_option_fields() {
  static const std::vector<Field> rows = {{"include_usage", FieldType::Flag, "one more event before the end says what the answers took"}};
  return rows;
}

struct CompletionRequest {
  AnswerRequest answer;
  std::vector<PlainPrompt> prompts;
  size_t kept = 1;  // of the choices of each prompt: the likeliest
  bool stream = false, include_usage = false, echo = false, logprobs = false;
};

CompletionRequest read_request(const Service& service, const OrderedJson& json) {
  const Fields body(json, completion_fields());
  check_model(service, body.text("model").value_or(""));
  CompletionRequest request;
  AnswerRequest& answer = request.answer;
  read_answer_fields(service, body, answer);
  request.stream = body.flag("stream").value_or(false);
  if (const OrderedJson* options = body.object("stream_options")) {
    request.include_usage = Fields(*options, stream_option_fields(), "stream_options").flag("include_usage").value_or(false);
  }
  if (!body.text("suffix").value_or("").empty()) body.wrong("suffix", "is not supported: the models served here continue texts, they don't fill gaps");
  request.kept = static_cast<size_t>(body.integer("n").value_or(1));
  answer.choices = static_cast<size_t>(body.integer("best_of").value_or(static_cast<int64_t>(request.kept)));
  if (answer.choices < request.kept) body.wrong("best_of", "must be at least 'n'");
  if (answer.choices > request.kept && request.stream) body.wrong("best_of", "can't be more than 'n' in a stream: which is best is known at the end");
  auto most = body.integer("max_tokens");
  if (!most) most = body.integer("n_predict").value_or(16);
  if (*most >= 0) answer.max_new_tokens = static_cast<size_t>(*most);
  const auto logprobs = body.integer("logprobs");
  request.logprobs = logprobs.has_value();
  request.echo = body.flag("echo").value_or(false);
  answer.top_logprobs = static_cast<size_t>(logprobs.value_or(0));
  answer.logprobs = request.logprobs || answer.choices > request.kept;
  answer.prompt_logprobs = request.logprobs && request.echo;

  request.prompts = read_prompts(service, body, "prompt");
  if (request.prompts.size() * answer.choices > service.limits.answers) {
    body.wrong("n", fmt::format("times the prompts must be at most {}", service.limits.answers));
  }
  answer.prompts = continued(service, request.prompts);
  make_constraints(service, answer);
  return request;
}

// The tokens of a prompt, with the place where each begins.
std::vector<ShownToken> shown_prompt(const text::Tokenizer& tokenizer, std::span<const engine::NewToken> tokens) {
  std::vector<ShownToken> shown;
  text::TextStream stream(tokenizer);
  size_t chars = 0;
  for (const engine::NewToken& token : tokens) {
    shown.push_back({token, chars});
    chars += text::count_characters(stream.push(token.token));
  }
  return shown;
}

OrderedJson legacy_logprobs_json(const text::Tokenizer& tokenizer, std::span<const ShownToken> tokens, bool begins_prompt, size_t offset) {
  OrderedJson texts = OrderedJson::array(), logprobs = OrderedJson::array(), tops = OrderedJson::array(), offsets = OrderedJson::array();
  const auto text_of = [&](int32_t token) { return text::replace_invalid(tokenizer.token_bytes(token)); };
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool is_first = begins_prompt && i == 0;  // nothing has predicted it
    texts.push_back(text_of(tokens[i].token.token));
    logprobs.push_back(is_first ? OrderedJson() : OrderedJson(tokens[i].token.logprob));
    OrderedJson top = OrderedJson::object();
    for (const engine::TokenLogprob& likely : tokens[i].token.top) top[text_of(likely.token)] = likely.logprob;
    tops.push_back(is_first ? OrderedJson() : std::move(top));
    offsets.push_back(tokens[i].offset + offset);
  }
  return {{"tokens", std::move(texts)}, {"token_logprobs", std::move(logprobs)}, {"top_logprobs", std::move(tops)}, {"text_offset", std::move(offsets)}};
}

double mean_logprob(const Answer& answer) {
  const double sum = std::accumulate(answer.tokens.begin(), answer.tokens.end(), 0.0,
                                     [](double total, const ShownToken& token) { return total + token.token.logprob; });
  return answer.tokens.empty() ? 0 : sum / static_cast<double>(answer.tokens.size());
}

class Completion {
 public:
  Completion(const Service& service, const CompletionRequest& request)
      : service_(service), request_(request), id_(make_id("cmpl-")), created_(service.time()) {}

  Task<> answer(Exchange& exchange, Answers& answers) {
    const std::vector<Answer> all = co_await answers.all();
    OrderedJson json = head();
    json["choices"] = OrderedJson::array();
    Usage usage;
    for (size_t prompt = 0; prompt < request_.prompts.size(); ++prompt) {
      for (const size_t i : best(all, prompt)) json["choices"].push_back(choice_json(all[i], prompt, json["choices"].size()));
      for (size_t i = 0; i < request_.answer.choices; ++i) usage.add(all[prompt * request_.answer.choices + i].ending, i == 0);
    }
    json["usage"] = usage_json(usage);
    json["timings"] = timings_json(all[0].ending);
    co_await exchange.answer(200, "application/json", to_text(json));
  }

  Task<> stream(Exchange& exchange, Answers& answers) {
    Usage usage;
    std::vector<bool> begun(answers.size());
    while (std::optional<AnswerEvent> event = co_await answers.next()) {
      if (!exchange.has_begun()) co_await exchange.begin_events();
      const size_t prompt = event->choice / request_.answer.choices;
      if (request_.echo && !begun[event->choice]) co_await exchange.send_event(echo(*event, prompt));
      begun[event->choice] = true;
      if (!event->parts.empty() || !event->tokens.empty()) co_await exchange.send_event(piece(*event, prompt));
      if (!event->ending) continue;
      usage.add(*event->ending, event->choice % request_.answer.choices == 0);
      co_await exchange.send_event(last(*event));
    }
    if (request_.include_usage) co_await exchange.send_event(usage_event(usage));
    co_await exchange.send_event("[DONE]");
    co_await exchange.end_events();
  }

 private:
  OrderedJson head() const {
    return {{"id", id_}, {"object", "text_completion"}, {"created", created_}, {"model", service_.model}, {"system_fingerprint", "moiety"}};
  }
  size_t echoed_chars(size_t prompt) const { return request_.echo ? text::count_characters(request_.prompts[prompt].text) : 0; }

  // Which answers to a prompt are kept.
  std::vector<size_t> best(const std::vector<Answer>& all, size_t prompt) const {
    std::vector<size_t> order(request_.answer.choices);
    std::iota(order.begin(), order.end(), prompt * request_.answer.choices);
    if (request_.kept < order.size()) {
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return mean_logprob(all[a]) > mean_logprob(all[b]); });
      order.resize(request_.kept);
    }
    return order;
  }

  OrderedJson choice_json(const Answer& answer, size_t prompt, size_t index) const {
    OrderedJson logprobs;
    if (request_.logprobs) {
      std::vector<ShownToken> tokens = request_.echo ? shown_prompt(service_.tokenizer, answer.prompt) : std::vector<ShownToken>();
      for (ShownToken token : answer.tokens) {
        token.offset += echoed_chars(prompt);
        tokens.push_back(std::move(token));
      }
      logprobs = legacy_logprobs_json(service_.tokenizer, tokens, request_.echo, 0);
    }
    const std::string text = (request_.echo ? request_.prompts[prompt].text : std::string()) + answer.content;
    return {{"text", text}, {"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", answer.ending.reason}};
  }

  std::string event_text(size_t choice, const std::string& text, OrderedJson logprobs, OrderedJson reason, const Ending* ending = nullptr) const {
    OrderedJson json = head();
    json["choices"].push_back({{"text", text}, {"index", choice}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(reason)}});
    if (request_.include_usage) json["usage"] = nullptr;
    if (ending != nullptr) json["timings"] = timings_json(*ending);
    return to_text(json);
  }
  std::string echo(const AnswerEvent& event, size_t prompt) const {
    OrderedJson logprobs;
    if (request_.logprobs) logprobs = legacy_logprobs_json(service_.tokenizer, shown_prompt(service_.tokenizer, event.prompt), true, 0);
    return event_text(event.choice, request_.prompts[prompt].text, std::move(logprobs), nullptr);
  }
  std::string piece(const AnswerEvent& event, size_t prompt) const {
    OrderedJson logprobs;
    if (request_.logprobs) logprobs = legacy_logprobs_json(service_.tokenizer, event.tokens, false, echoed_chars(prompt));
    std::string text;
    for (const AnswerPart& part : event.parts) text += part.text;
    return event_text(event.choice, text, std::move(logprobs), nullptr);
  }
  std::string last(const AnswerEvent& event) const {
    return event_text(event.choice, "", nullptr, event.ending->reason, &*event.ending);
  }
  std::string usage_event(const Usage& usage) const {
    OrderedJson json = head();
    json["choices"] = OrderedJson::array();
    json["usage"] = usage_json(usage);
    return to_text(json);
  }

  const Service& service_;
  const CompletionRequest& request_;
  std::string id_;
  int64_t created_;
};

}  // namespace

FieldTable completion_fields() {
  static const std::vector<Field> rows = with_answer_fields({
      {"model", FieldType::Text, "the model's name; none: the one that is there"},
      {"prompt", FieldType::TextOrList, "a text, a list of token ids, or a list of texts or of such lists"},
      {"suffix", FieldType::Text, "refused: texts are continued, gaps are not filled"},
      {"stream", FieldType::Flag, "the answer comes as server-sent events"},
      {"stream_options", FieldType::Object, "of a stream", stream_option_fields},
      {"n", FieldType::Integer, "answers to each prompt", 1, 1000},
      {"best_of", FieldType::Integer, "answers that are made, of which the n likeliest are given", 1, 1000},
      {"max_tokens", FieldType::Integer, "tokens of an answer at most; 16 if it isn't there, -1: as many as there is room for", -1, 1e9},
      {"n_predict", FieldType::Integer, "the same, as llama.cpp's server calls it", -2, 1e9},
      {"echo", FieldType::Flag, "the prompt comes before the answer"},
      {"logprobs", FieldType::Integer, "log probabilities of the answer's tokens and of so many likeliest; with echo of the prompt's, too", 0, 20},
  });
  return rows;
}

Task<> completions(Service& service, Exchange& exchange) { return answer_by<Completion>(service, exchange, read_request); }

}  // namespace moiety::server
