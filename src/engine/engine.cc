#include "engine/engine.h"

#include <xxhash.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "engine/generate.h"
#include "engine/tally.h"
#include "engine/token_choice.h"
#include "spec/model_spec.h"

namespace moiety::engine {
namespace {

double seconds_between(Clock::time_point start, Clock::time_point end) { return std::chrono::duration<double>(end - start).count(); }

EngineOptions filled_in(EngineOptions options, const model::Transformer& transformer) {
  const auto positions = static_cast<size_t>(transformer.spec().max_positions);
  if (options.context == 0 || options.context > positions) options.context = positions;
  options.max_running = std::max<size_t>(options.max_running, 1);
  if (options.cache_tokens == 0) options.cache_tokens = std::max(options.context, options.max_running * std::min<size_t>(2048, options.context));
  options.context = std::min(options.context, options.cache_tokens);
  if (options.step_tokens == 0) options.step_tokens = transformer.prompt_chunk(options.context);
  constexpr size_t kForPrompts = 32;
  options.step_tokens = std::max(options.step_tokens, options.max_running + kForPrompts);
  return options;
}

void check_router(const model::RouterOverride& router, const spec::ModelSpec& spec) {
  const int experts = spec.moe.router.num_experts;
  require(spec.moe_layers() > 0, "the model has no experts whose router could be overridden");
  require(router.experts_per_token >= 0 && router.experts_per_token <= experts, "{} experts for a token: the model has {}",
          router.experts_per_token, experts);
  require(router.bias_LE.empty() || router.bias_LE.size() == static_cast<size_t>(spec.num_layers * experts),
          "a router's bias needs a number for each of {} layers' {} experts", spec.num_layers, experts);
}

// Whose keys and values these are: the model, as far as its shape and the first bytes of its tensors tell, and its arithmetic.
std::string identity_of(const model::Transformer& transformer) {
  std::string all = spec::to_json(transformer.spec()).dump() + transformer.arithmetic_name();
  for (const auto& tensor : transformer.file().tensors()) {
    const auto first = tensor.bytes.first(std::min<size_t>(64, tensor.bytes.size()));
    all += tensor.name;
    all.append(reinterpret_cast<const char*>(first.data()), first.size());
  }
  return fmt::format("{:016x}", XXH3_64bits(all.data(), all.size()));
}

}  // namespace

class Engine::Impl {
 public:
  Impl(model::Transformer& transformer, const EngineOptions& wanted)
      : options(filled_in(wanted, transformer)),
        tally(transformer.spec()),
        transformer_(transformer),
        room_(transformer.spec(), {options.context, options.cache_tokens, options.kv, options.share_prefixes}),
        scheduler_(room_, {options.max_running, options.step_tokens, options.speculate}),
        thread_([this] { run(); }) {}
  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  uint64_t submit(Request request, std::shared_ptr<Listener> listener);
  void cancel(uint64_t id);
  void save_prompts(const fs::path& file);
  void load_prompts(const fs::path& file);
  const spec::ModelSpec& spec() const { return transformer_.spec(); }

  const EngineOptions options;
  Tally tally;

 private:
  void check(const Request& request) const;
  // All that follow are the engine's thread's.
  void run();
  bool take_arrivals();
  void step(std::span<const Turn> turns);
  std::vector<std::vector<NewToken>> choose(std::span<const Turn> turns, std::span<const TurnResult> results);
  void take_prompt(const Turn& turn, const TurnResult& result);
  void take_answer(const Turn& turn, std::span<const NewToken> chosen, Tally::Step& counts);
  static void finish(Sequence& sequence, Outcome::Stop stop, std::string error = {});
  void end(uint64_t id);
  void end_those_that_are_through();
  void give_up_late_ones();
  void update_tally();

  model::Transformer& transformer_;
  CacheRoom room_;
  Scheduler scheduler_;
  SpeculationWatch watch_;
  std::optional<Clock::time_point> paused_;  // since then nothing was computed, though there is something to do

  std::mutex mutex_;  // guards these
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Sequence>> arrived_;
  std::vector<uint64_t> cancelled_;
  uint64_t last_id_ = 0;
  bool stopping_ = false;

  std::thread thread_;  // last: it uses all of the above
};

void Engine::Impl::check(const Request& request) const {
  const size_t answer = request.kind == Request::Kind::Embed ? 0 : 1;
  engine::check(request.sampling);
  check_tokens(request.prompt, transformer_.spec());
  require(!request.prompt.empty(), "the prompt has no tokens; give at least one");
  require(request.prompt.size() + answer <= options.context, "the prompt has {} tokens, the context holds {}{}", request.prompt.size(),
          options.context, answer > 0 ? " with the answer's" : "");
  require(answer == 0 || request.max_new_tokens > 0, "no token is asked for; ask for one at least");
  if (request.router) check_router(*request.router, transformer_.spec());
}

uint64_t Engine::Impl::submit(Request request, std::shared_ptr<Listener> listener) {
  check(request);
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens = request.prompt;
  sequence->request = std::move(request);
  sequence->listener = std::move(listener);
  sequence->submitted = Clock::now();
  tally.update([](EngineStatistics& statistics) { ++statistics.requests, ++statistics.waiting; });
  const std::lock_guard lock(mutex_);
  const uint64_t id = sequence->id = ++last_id_;
  arrived_.push_back(std::move(sequence));
  wake_.notify_one();
  return id;
}

void Engine::Impl::cancel(uint64_t id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  wake_.notify_one();
}

void Engine::Impl::save_prompts(const fs::path& file) {
  const std::lock_guard lock(mutex_);  // the engine's thread waits
  require(scheduler_.idle() && arrived_.empty(), "{}: prompts are saved while nothing runs", file.string());
  room_.save(file, identity_of(transformer_));
}

void Engine::Impl::load_prompts(const fs::path& file) {
  const std::lock_guard lock(mutex_);
  require(scheduler_.idle() && arrived_.empty(), "{}: prompts are read while nothing runs", file.string());
  room_.load(file, identity_of(transformer_));
}

void Engine::Impl::run() {
  while (take_arrivals()) {
    update_tally();
    const std::vector<Turn> turns = scheduler_.next(watch_);
    if (turns.empty()) continue;
    step(turns);
    paused_ = Clock::now();
    give_up_late_ones();
    end_those_that_are_through();
  }
  // What is left was cancelled.
  while (!scheduler_.idle()) {
    Sequence& any = *(scheduler_.running().empty() ? scheduler_.waiting() : scheduler_.running()).front();
    finish(any, Outcome::Stop::Cancelled);
    end(any.id);
  }
}

// Waits until there is something to do; false if it is to stop.
bool Engine::Impl::take_arrivals() {
  std::vector<std::unique_ptr<Sequence>> arrived;
  std::vector<uint64_t> cancelled;
  bool stopping = false;
  {
    std::unique_lock lock(mutex_);
    if (scheduler_.idle()) {
      update_tally();
      paused_.reset();
      wake_.wait(lock, [&] { return stopping_ || !arrived_.empty(); });
    }
    arrived.swap(arrived_);
    cancelled.swap(cancelled_);
    stopping = stopping_;
  }
  for (auto& sequence : arrived) {
    if (options.trace != nullptr) sequence->trace_number = options.trace->new_sequence();
    scheduler_.add(std::move(sequence));
  }
  for (const uint64_t id : cancelled) {
    Sequence* sequence = scheduler_.find(id);
    if (sequence == nullptr) continue;
    finish(*sequence, Outcome::Stop::Cancelled);
    end(id);
  }
  return !stopping;
}

void Engine::Impl::step(std::span<const Turn> turns) {
  const auto start = Clock::now();
  for (const Turn& turn : turns) {
    Sequence& s = *turn.sequence;
    if (s.started != Clock::time_point()) continue;
    s.started = start;
    s.outcome.queue_seconds = seconds_between(s.submitted, start);
    s.outcome.cached_tokens = s.computed();
    tally.update([&](EngineStatistics& statistics) { statistics.cached_tokens += s.computed(); });
  }

  const bool only_answers = std::ranges::all_of(turns, [](const Turn& turn) { return turn.sequence->is_decoding(); });
  StepResult result;
  try {
    result = run_step(transformer_, turns, options.trace, [&](int layer, const moe::Routing& routing) {
      tally.add_routing(layer, routing, turns);
    });
  } catch (const std::exception& error) {
    if (turns.size() == 1) return finish(*turns[0].sequence, Outcome::Stop::Failed, error.what());
    // Perhaps one sequence's experts can't be read: the others go on. The caches are what they were.
    for (const Turn& turn : turns) step({&turn, 1});
    return;
  }
  if (only_answers) watch_.saw(result.logits_RV.rows(), seconds_between(start, Clock::now()));
  const std::vector<std::vector<NewToken>> chosen = choose(turns, result.turns);
  Tally::Step counts{.seconds = seconds_between(start, Clock::now()), .pause = paused_ ? seconds_between(*paused_, start) : 0};
  for (size_t i = 0; i < turns.size(); ++i) {
    Sequence& s = *turns[i].sequence;
    scheduler_.charge(s.request.client, turns[i].tokens);
    try {
      take_prompt(turns[i], result.turns[i]);
      take_answer(turns[i], chosen[i], counts);
    } catch (const std::exception& error) {  // of its listener
      finish(s, Outcome::Stop::Failed, error.what());
    }
  }
  tally.add_step(counts);
}

// Each sequence's next tokens, those without constraints on all threads.
std::vector<std::vector<NewToken>> Engine::Impl::choose(std::span<const Turn> turns, std::span<const TurnResult> results) {
  std::vector<std::vector<NewToken>> chosen(turns.size());
  std::vector<size_t> free;
  const auto choose_one = [&](size_t i) {
    try {
      const size_t rows = 1 + turns[i].drafted.size(), all = results[i].logits_RV.rows();
      chosen[i] = choose_tokens(*turns[i].sequence, turns[i].drafted, results[i].logits_RV.middle_rows(all - rows, rows));
    } catch (const std::exception& error) {
      finish(*turns[i].sequence, Outcome::Stop::Failed, error.what());
    }
  };
  for (size_t i = 0; i < turns.size(); ++i) {
    if (!turns[i].wants_token()) continue;
    if (turns[i].sequence->request.constraint) {
      choose_one(i);
    } else {
      free.push_back(i);
    }
  }
  transformer_.threads().parallel_for(free.size(), [&](size_t n) { choose_one(free[n]); });
  return chosen;
}

// What is asked of a prompt's own tokens.
void Engine::Impl::take_prompt(const Turn& turn, const TurnResult& result) {
  Sequence& s = *turn.sequence;
  if (turn.wants_prompt_logprobs()) {
    if (s.prompt_logprobs.empty()) s.prompt_logprobs.push_back({s.tokens[0], 0, {}});
    for (size_t r = 0; r < turn.tokens && s.prompt_logprobs.size() < s.prompt(); ++r) {
      const int32_t next = s.tokens[s.prompt_logprobs.size()];
      s.prompt_logprobs.push_back(with_logprobs(next, result.logits_RV.row(r), s.request.top_logprobs));
    }
    if (turn.is_rest) s.listener->on_prompt(s.prompt_logprobs);
  }
  if (s.request.kind != Request::Kind::Embed) return;
  const bool is_mean = s.request.pooling == Request::Pooling::Mean;
  s.state_sum_D.resize(result.states_TD.cols());
  for (size_t t = is_mean ? 0 : result.states_TD.rows() - 1; t < result.states_TD.rows(); ++t) {
    const auto state_D = result.states_TD.row(t);
    for (size_t d = 0; d < state_D.size(); ++d) s.state_sum_D[d] = (is_mean ? s.state_sum_D[d] : 0) + state_D[d];
  }
  if (!turn.is_rest) return;
  const double parts = is_mean ? static_cast<double>(s.prompt()) : 1;
  for (const double sum : s.state_sum_D) s.outcome.embedding_D.push_back(static_cast<float>(sum / parts));
  finish(s, Outcome::Stop::Length);
}

void Engine::Impl::take_answer(const Turn& turn, std::span<const NewToken> chosen, Tally::Step& counts) {
  Sequence& s = *turn.sequence;
  const bool was_prompt = s.said().empty();
  if (was_prompt) counts.prompt_tokens += turn.tokens;
  if (!turn.wants_token() || s.is_through) return;
  if (was_prompt) {
    s.answering = Clock::now();
    s.outcome.prefill_seconds = seconds_between(s.started, s.answering);
  }

  const auto rightly = std::ranges::mismatch(chosen, turn.drafted, {}, [](const NewToken& token) { return token.token; });
  const auto accepted = static_cast<size_t>(rightly.in2 - turn.drafted.begin());
  s.cache->truncate(s.tokens.size() + accepted);
  s.drafter.learn(turn.drafted.size(), accepted);
  s.outcome.drafted += turn.drafted.size();
  s.outcome.accepted += accepted;
  counts.drafted += turn.drafted.size();
  counts.accepted += accepted;

  for (const NewToken& token : chosen) {
    if (is_stop(s, token.token)) {
      s.outcome.stop_token = token.token;
      return finish(s, Outcome::Stop::StopToken);
    }
    s.tokens.push_back(token.token);
    ++s.outcome.new_tokens;
    ++counts.new_tokens;
    if (!s.listener->on_token(token)) return finish(s, Outcome::Stop::Listener);
    if (s.said().size() == s.request.max_new_tokens) return finish(s, Outcome::Stop::Length);
    if (s.tokens.size() > options.context) return finish(s, Outcome::Stop::ContextFull);
  }
}

void Engine::Impl::finish(Sequence& sequence, Outcome::Stop stop, std::string error) {
  sequence.is_through = true;
  sequence.outcome.stop = stop;
  sequence.outcome.error = std::move(error);
}

void Engine::Impl::end(uint64_t id) {
  const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
  if (sequence->cache) room_.put_aside(*sequence);
  Outcome& outcome = sequence->outcome;
  outcome.prompt_tokens = sequence->prompt();
  if (sequence->answering != Clock::time_point()) outcome.decode_seconds = seconds_between(sequence->answering, Clock::now());
  try {
    sequence->listener->on_end(outcome);
  } catch (const std::exception&) {  // there is nobody else to tell
  }
}

void Engine::Impl::end_those_that_are_through() {
  std::vector<uint64_t> through;
  for (const auto* list : {&scheduler_.running(), &scheduler_.waiting()}) {
    for (const auto& sequence : *list) {
      if (sequence->is_through) through.push_back(sequence->id);
    }
  }
  for (const uint64_t id : through) end(id);
}

// Those that have waited longer than they may. Whoever can begin has begun by now.
void Engine::Impl::give_up_late_ones() {
  const auto now = Clock::now();
  for (const auto& sequence : scheduler_.waiting()) {
    const bool is_late = !sequence->has_started && seconds_between(sequence->submitted, now) > sequence->request.queue_seconds;
    if (is_late) finish(*sequence, Outcome::Stop::Overdue);
  }
}

void Engine::Impl::update_tally() {
  tally.update([&](EngineStatistics& statistics) {
    statistics.running = scheduler_.running().size();
    statistics.waiting = scheduler_.waiting().size();
    statistics.preemptions = scheduler_.preemptions();
    std::vector<const model::KvPage*> pages;
    for (const auto& sequence : scheduler_.running()) {
      for (const auto& page : sequence->cache->pages()) pages.push_back(page.get());
    }
    std::ranges::sort(pages);
    pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
    statistics.cache_tokens = room_.pool().limit() * model::KvPage::kPositions;
    statistics.cache_tokens_used = pages.size() * model::KvPage::kPositions;
    statistics.cache_tokens_shared = (room_.pool().in_use() - pages.size()) * model::KvPage::kPositions;
    const store::StoreStatistics* store = transformer_.expert_statistics();
    if (store == nullptr) return;
    statistics.expert_hits = store->hits;
    statistics.expert_misses = store->misses;
    statistics.expert_bytes_read = store->bytes_read;
    statistics.expert_slots = transformer_.expert_cache()->slots();
  });
}

Engine::Engine(model::Transformer& transformer, const EngineOptions& options) : impl_(std::make_unique<Impl>(transformer, options)) {}
Engine::~Engine() = default;

const EngineOptions& Engine::options() const { return impl_->options; }
const spec::ModelSpec& Engine::spec() const { return impl_->spec(); }
uint64_t Engine::submit(Request request, std::shared_ptr<Listener> listener) { return impl_->submit(std::move(request), std::move(listener)); }
void Engine::cancel(uint64_t id) { impl_->cancel(id); }
EngineStatistics Engine::statistics() const { return impl_->tally.statistics(); }
std::vector<std::vector<uint32_t>> Engine::visits_of(uint64_t id) const { return impl_->tally.visits_of(id); }
void Engine::save_prompts(const fs::path& file) { impl_->save_prompts(file); }
void Engine::load_prompts(const fs::path& file) { impl_->load_prompts(file); }

}  // namespace moiety::engine
