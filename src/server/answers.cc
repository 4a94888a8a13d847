#include "server/answers.h"

#include <algorithm>

#include "server/after_reasoning.h"
#include "server/answer_writer.h"
#include "server/mailbox.h"
#include "server/metered_listener.h"

namespace moiety::server {

namespace asio = boost::asio;

// Hands on what an AnswerWriter makes of a request's tokens.
class Answers::Writer final : public engine::Listener {
 public:
  Writer(std::shared_ptr<Mailbox<AnswerEvent>> inbox, AnswerWriter writer) : inbox_(std::move(inbox)), writer_(std::move(writer)) {}

  void on_prompt(std::span<const engine::NewToken> tokens) override { inbox_->push(writer_.on_prompt(tokens)); }
  bool on_token(const engine::NewToken& token) override {
    AnswerEvent event = writer_.on_token(token);
    if (!event.parts.empty() || !event.tokens.empty()) inbox_->push(std::move(event));
    return writer_.wants_more();
  }
  void on_end(const engine::Outcome& outcome) override { inbox_->push(writer_.on_end(outcome)); }

 private:
  std::shared_ptr<Mailbox<AnswerEvent>> inbox_;
  AnswerWriter writer_;  // used by the engine's thread alone
};

namespace {

std::unique_ptr<engine::TokenConstraint> constraint(const Service& service, const OutputRule& rule, const Prompt& prompt) {
  try {
    std::unique_ptr<engine::TokenConstraint> made = service.constrain(rule, prompt.stop_tokens);
    return prompt.format ? after_reasoning(std::move(made), rule, *prompt.format, service.tokenizer) : std::move(made);
  } catch (const Error& error) {
    throw HttpError(400, error.what(), "", rule.field);
  }
}

}  // namespace

void make_constraints(const Service& service, AnswerRequest& request) {
  if (!request.rule) return;
  for (const Prompt& prompt : request.prompts) {
    for (size_t i = 0; i < request.choices; ++i) request.constraints.push_back(constraint(service, *request.rule, prompt));
  }
}

namespace {

engine::Request engine_request(const Service& service, const AnswerRequest& wanted, const Prompt& prompt, size_t choice) {
  engine::Request request;
  request.prompt = prompt.tokens;
  if (wanted.embed) {
    request.kind = engine::Request::Kind::Embed;
    request.pooling = *wanted.embed;
  }
  const size_t room = service.engine.options().context - prompt.tokens.size();
  const size_t otherwise = service.limits.new_tokens == 0 ? room : service.limits.new_tokens;
  request.max_new_tokens = std::clamp<size_t>(wanted.max_new_tokens.value_or(otherwise), 1, room);  // the writer drops it if none is wanted
  request.sampling = wanted.sampling;
  request.sampling.seed += choice;
  if (!wanted.ignore_ends) request.stop_tokens = prompt.stop_tokens;
  request.logprobs = wanted.logprobs || wanted.prompt_logprobs;
  request.top_logprobs = wanted.top_logprobs;
  request.prompt_logprobs = wanted.prompt_logprobs;
  request.router = wanted.router;
  request.speculate = wanted.speculate;
  request.priority = wanted.priority;
  request.client = wanted.client;
  return request;
}

}  // namespace

Answers::Answers(const Service& service, AnswerRequest& request, asio::any_io_executor executor)
    : service_(service),
      ticket_(*service.admission, request.prompts.size() * request.choices),
      inbox_(std::make_shared<Mailbox<AnswerEvent>>(executor)) {
  // All of them are made before the first is let off: what is wrong with one is wrong with all.
  std::vector<engine::Request> requests;
  for (const Prompt& prompt : request.prompts) {
    for (size_t i = 0; i < request.choices; ++i) requests.push_back(engine_request(service, request, prompt, i));
  }
  requests.front().queue_seconds = service.limits.queue_seconds;  // the others follow it
  for (size_t i = 0; i < request.constraints.size(); ++i) requests[i].constraint = std::move(request.constraints[i]);
  try {
    for (size_t choice = 0; choice < requests.size(); ++choice) {
      const Prompt& prompt = request.prompts[choice / request.choices];
      std::shared_ptr<engine::Listener> listener =
          std::make_shared<Writer>(inbox_, AnswerWriter(service.tokenizer, request, prompt, choice));
      if (service.metrics != nullptr) listener = std::make_shared<MeteredListener>(*service.metrics, request.tally, std::move(listener));
      ids_.push_back(service.engine.submit(std::move(requests[choice]), std::move(listener)));
      service.answer_ids->add(request.request, ids_.back());
    }
  } catch (...) {
    for (const uint64_t id : ids_) service_.engine.cancel(id);
    inbox_->close();
    throw;
  }
}

Answers::~Answers() {
  if (ended_ < ids_.size()) {
    for (const uint64_t id : ids_) service_.engine.cancel(id);
  }
  inbox_->close();
}

Task<std::optional<AnswerEvent>> Answers::next() {
  if (ended_ == ids_.size()) co_return std::nullopt;
  AnswerEvent event = co_await inbox_->next();
  if (event.ending) {
    ++ended_;
    using Stop = engine::Outcome::Stop;
    const engine::Outcome& outcome = event.ending->outcome;
    if (outcome.stop == Stop::Failed) throw HttpError(500, outcome.error, "engine_failed");
    if (outcome.stop == Stop::Overdue) throw service_.admission->refusal("its turn did not come in time");
    if (outcome.stop == Stop::Cancelled) throw HttpError(503, "the server is stopping, and has ended this answer", "stopping");
  }
  co_return event;
}

Task<std::vector<Answer>> Answers::all() {
  std::vector<Answer> answers(size());
  while (std::optional<AnswerEvent> event = co_await next()) {
    const size_t choice = event->choice;
    answers[choice].add(std::move(*event));
  }
  co_return answers;
}

void Answer::add(AnswerEvent&& event) {
  using Kind = AnswerPart::Kind;
  for (AnswerPart& part : event.parts) {
    if (part.kind == Kind::Reasoning) reasoning += part.text;
    if (part.kind == Kind::Content) content += part.text;
    if (part.kind == Kind::ToolCall) calls.push_back(std::move(part));
  }
  for (ShownToken& token : event.tokens) tokens.push_back(std::move(token));
  for (engine::NewToken& token : event.prompt) prompt.push_back(std::move(token));
  if (event.ending) ending = std::move(*event.ending);
}

void set_client(AnswerRequest& answer, const HttpRequest& request) {
  answer.client = request.client;
  answer.request = request.id;
  answer.priority = std::min(request.priority + answer.priority, request.max_priority);
  answer.tally = request.tokens;
}

void Usage::add(const Ending& ending, bool counts_prompt) {
  if (counts_prompt) {
    prompt_tokens += ending.outcome.prompt_tokens;
    cached_tokens += ending.outcome.cached_tokens;
  }
  new_tokens += ending.outcome.new_tokens;
  reasoning_tokens += ending.reasoning_tokens;
}

}  // namespace moiety::server
