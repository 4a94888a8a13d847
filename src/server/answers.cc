#include "server/answers.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <deque>
#include <mutex>

#include "server/after_reasoning.h"
#include "server/answer_writer.h"
#include "server/metered_listener.h"

namespace moiety::server {

namespace asio = boost::asio;

// From the engine's thread to one task.
class Answers::Inbox : public std::enable_shared_from_this<Inbox> {
 public:
  explicit Inbox(const asio::any_io_executor& executor) { timer_.emplace(executor, asio::steady_timer::time_point::max()); }

  // By any thread.
  void push(AnswerEvent event) {
    const std::lock_guard lock(mutex_);
    if (!timer_) return;
    events_.push_back(std::move(event));
    if (!std::exchange(is_waiting_, false)) return;
    // By the time this runs the task sleeps: both run on the executor, one at a time.
    asio::post(timer_->get_executor(), [self = shared_from_this()] {
      const std::lock_guard wake_lock(self->mutex_);
      if (self->timer_) self->timer_->cancel();
    });
  }

  Task<AnswerEvent> next() {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (!events_.empty()) {
          AnswerEvent event = std::move(events_.front());
          events_.pop_front();
          co_return event;
        }
        is_waiting_ = true;
      }
      co_await timer_->async_wait(asio::as_tuple(asio::use_awaitable));
      const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
      if (state.cancelled() != asio::cancellation_type::none) throw boost::system::system_error(asio::error::operation_aborted);
    }
  }

  // Nothing of the executor is touched from now on.
  void close() {
    const std::lock_guard lock(mutex_);
    timer_.reset();
    events_.clear();
  }

 private:
  std::mutex mutex_;
  std::optional<asio::steady_timer> timer_;  // changed under the mutex; nothing: nobody listens any more
  std::deque<AnswerEvent> events_;           // guarded by mutex_
  bool is_waiting_ = false;                  // guarded by mutex_
};

// Hands on what an AnswerWriter makes of a request's tokens.
class Answers::Writer final : public engine::Listener {
 public:
  Writer(std::shared_ptr<Inbox> inbox, AnswerWriter writer) : inbox_(std::move(inbox)), writer_(std::move(writer)) {}

  void on_prompt(std::span<const engine::NewToken> tokens) override { inbox_->push(writer_.on_prompt(tokens)); }
  bool on_token(const engine::NewToken& token) override {
    AnswerEvent event = writer_.on_token(token);
    if (!event.parts.empty() || !event.tokens.empty()) inbox_->push(std::move(event));
    return writer_.wants_more();
  }
  void on_end(const engine::Outcome& outcome) override { inbox_->push(writer_.on_end(outcome)); }

 private:
  std::shared_ptr<Inbox> inbox_;
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
  if (wanted.rule) {
    request.constraint = constraint(service, *wanted.rule, prompt);
  }
  request.router = wanted.router;
  request.speculate = wanted.speculate;
  request.priority = wanted.priority;
  request.client = wanted.client;
  return request;
}

}  // namespace

Answers::Answers(const Service& service, const AnswerRequest& request, asio::any_io_executor executor)
    : engine_(service.engine), inbox_(std::make_shared<Inbox>(executor)) {
  // All of them are made before the first is let off: what is wrong with one is wrong with all.
  std::vector<engine::Request> requests;
  for (const Prompt& prompt : request.prompts) {
    for (size_t i = 0; i < request.choices; ++i) requests.push_back(engine_request(service, request, prompt, i));
  }
  try {
    for (size_t choice = 0; choice < requests.size(); ++choice) {
      const Prompt& prompt = request.prompts[choice / request.choices];
      std::shared_ptr<engine::Listener> listener =
          std::make_shared<Writer>(inbox_, AnswerWriter(service.tokenizer, request, prompt, choice));
      if (service.metrics != nullptr) listener = std::make_shared<MeteredListener>(*service.metrics, request.tally, std::move(listener));
      ids_.push_back(engine_.submit(std::move(requests[choice]), std::move(listener)));
      service.answer_ids->add(request.request, ids_.back());
    }
  } catch (...) {
    for (const uint64_t id : ids_) engine_.cancel(id);
    inbox_->close();
    throw;
  }
}

Answers::~Answers() {
  if (ended_ < ids_.size()) {
    for (const uint64_t id : ids_) engine_.cancel(id);
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
  answer.priority += request.priority;
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
