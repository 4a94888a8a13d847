#include "train/trainer.h"

#include <malloc.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/progress.h"
#include "moe/join.h"
#include "trace/trace_recorder.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/sampler.h"
#include "train/schedule.h"
#include "train/validation.h"

namespace moiety::train {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A run given in minutes times its steps from the one to the end of the warm-up, or until this share of the time has
// gone, to fix the number of all.
constexpr int64_t kTimedFrom = 5, kTimedAtLeast = 20;
constexpr double kTimedShare = 0.1;
constexpr int64_t kLoadEvery = 20;  // steps between two lines with the experts' load

int set_threads(int64_t wanted) {
  cpu_set_t allowed;
  int threads = static_cast<int>(wanted);
  if (threads == 0) threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  omp_set_num_threads(threads);
  at::set_num_threads(threads);
  return threads;
}

Mode mode_of(const TrainConfig::Train& config) {
  return {config.precision == "bf16" ? GemmType::Bf16 : GemmType::F32, config.keep == "inputs" ? Keep::Inputs : Keep::Products};
}

// Activations come and go every step: keep their memory instead of giving it back and faulting it in again.
void keep_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT32_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, PreparedData data)
      : config_(config),
        dir_(config.run.dir),
        data_(std::move(data)),
        spec_(model_spec(config, data_.vocab_size, data_.end_of_text)),
        weights_(spec_),
        optimizer_(config.optimizer, weights_),
        model_(spec_, weights_, mode_of(config.train)),
        sampler_(domains(), static_cast<size_t>(config.train.sequence), static_cast<uint64_t>(config.run.seed)),
        routers_(routers_of(spec_)),
        step_load_(static_cast<int>(routers_.size()), spec_.moe.router.num_experts) {
    if (config.trace.file.empty()) return;
    trace_writer_.emplace(config.trace.file, trace::header_of(spec_, trace::model_name(dir_)));
    trace_.emplace(*trace_writer_);
  }

  Outcome run(const std::function<bool()>& stop);

 private:
  std::vector<Sampler::Domain> domains() const;
  void begin_or_resume();
  void fix_steps();
  bool step_count_is_fixed() const { return state_.steps > 0; }
  void step(Metrics& metrics);
  void record(const Batch& batch, const Routes& routes);
  void update_bias();
  void report_validation(Metrics& metrics, Progress& progress, bool last);
  void checkpoint();
  std::span<const int64_t> load_of(size_t router) const;
  Json load_figures() const;
  size_t tokens_per_step() const {
    return static_cast<size_t>(config_.train.sequence * config_.train.batch * config_.train.accumulate);
  }
  TrainConfig::Schedule schedule() const;

  const TrainConfig& config_;
  fs::path dir_;
  PreparedData data_;
  spec::ModelSpec spec_;
  Weights weights_;
  Optimizer optimizer_;
  Transformer model_;
  Sampler sampler_;
  RunState state_;
  std::vector<RouterPlace> routers_;
  moe::Load step_load_;  // by router
  std::optional<trace::TraceWriter> trace_writer_;
  std::optional<trace::TraceRecorder> trace_;
  std::vector<DomainScore> scores_;

  Clock::time_point last_checkpoint_{};
  double last_loss_ = 0, last_step_seconds_ = 0, training_seconds_ = 0;
  std::vector<double> step_seconds_;  // while the number of steps isn't fixed
  int64_t first_step_ = 0;
};

std::vector<Sampler::Domain> Trainer::domains() const {
  std::vector<Sampler::Domain> domains;
  for (const PreparedDomain& domain : data_.domains) domains.push_back({domain.name, domain.train.get(), domain.weight});
  return domains;
}

// Until the number of steps is known the learning rate must not depend on it: the warm-up lasts that long at least.
TrainConfig::Schedule Trainer::schedule() const {
  TrainConfig::Schedule schedule = config_.schedule;
  if (config_.train.minutes > 0) schedule.warmup = std::max(schedule.warmup, kTimedFrom + kTimedAtLeast);
  return schedule;
}

void Trainer::begin_or_resume() {
  const fs::path plan = dir_ / "plan.json";
  if (config_.train.minutes == 0) {
    state_.steps = config_.train.steps;
  } else if (fs::exists(plan)) {
    const Json json = parse_json(read_file(plan), plan.string());
    state_.steps = JsonObject(json, plan.string()).integer("steps", 1, INT64_MAX);
  }
  if (const auto found = newest_checkpoint(dir_ / "checkpoints")) {
    const int64_t wanted = state_.steps;
    state_ = read_checkpoint(*found, spec_, weights_, optimizer_);
    // A run given in steps may be made longer; one given in minutes was fixed when it began.
    if (config_.train.minutes == 0) state_.steps = wanted;
    sampler_.restore(state_.domains, found->string());
  } else {
    weights_.initialise(spec_, static_cast<uint64_t>(config_.run.seed));
  }
}

void Trainer::fix_steps() {
  if (state_.step > kTimedFrom) step_seconds_.push_back(last_step_seconds_);
  const auto timed = static_cast<int64_t>(step_seconds_.size());
  const double budget = config_.train.minutes * 60;
  const bool warm = state_.step >= schedule().warmup;
  if (timed < kTimedAtLeast || (!warm && training_seconds_ < kTimedShare * budget)) return;
  // The median: a neighbour who is busy for a moment should not cut the run short.
  std::ranges::nth_element(step_seconds_, step_seconds_.begin() + timed / 2);
  const double a_step = step_seconds_[static_cast<size_t>(timed / 2)];
  const double left = std::max(0.0, budget - training_seconds_);
  state_.steps = state_.step + std::max<int64_t>(1, std::lround(left / a_step));
  write_file(dir_ / "plan.json", Json{{"steps", state_.steps}, {"seconds_per_step", a_step}}.dump(2) + "\n");
}

void Trainer::step(Metrics& metrics) {
  const auto start = Clock::now();
  const auto accumulate = static_cast<float>(config_.train.accumulate);
  const LossWeights loss_weights{static_cast<float>(config_.balance.aux_loss),
                                 static_cast<float>(config_.balance.z_loss)};
  step_load_ = moe::Load(static_cast<int>(routers_.size()), spec_.moe.router.num_experts);
  double loss = 0, balance = 0, z = 0;
  for (int64_t i = 0; i < config_.train.accumulate; ++i) {
    const Batch batch = sampler_.next(static_cast<size_t>(config_.train.batch));
    Routes routes;
    const Losses losses = model_.forward(batch, loss_weights, &routes);
    (losses.total / accumulate).backward();
    loss += losses.cross_entropy / accumulate;
    balance += losses.balance / accumulate;
    z += losses.z / accumulate;
    for (size_t router = 0; router < routes.size(); ++router) {
      step_load_.add(static_cast<int>(router), routes[router]->routing);
    }
    if (trace_ && state_.step % config_.trace.every == 0) record(batch, routes);
  }
  // Before the weights are touched, so that the last checkpoint stays good.
  require(std::isfinite(loss), "step {}: the loss is {}; a lower optimizer.lr may help", state_.step + 1, loss);

  const double rate = learning_rate(schedule(), config_.optimizer.lr, state_.step, std::max<int64_t>(1, state_.steps));
  const double norm = optimizer_.step(state_.step, rate);
  update_bias();
  ++state_.step;
  state_.tokens += static_cast<int64_t>(tokens_per_step());
  last_loss_ = loss;

  const double seconds = last_step_seconds_ = seconds_since(start);
  training_seconds_ += seconds;
  Json line = {{"step", state_.step},
               {"loss", loss},
               {"balance_loss", balance},
               {"z_loss", z},
               {"grad_norm", norm},
               {"lr", rate},
               {"tokens", state_.tokens},
               {"tokens_per_s", std::round(static_cast<double>(tokens_per_step()) / seconds)},
               {"dropped_tokens", 0}};
  if (state_.step % kLoadEvery == 0) line["load"] = load_figures();
  metrics.add(line);
}

// Each segment of the batch is a sequence of its own.
void Trainer::record(const Batch& batch, const Routes& routes) {
  std::vector<trace::Part> parts;
  for (const Segment& segment : batch.segments) {
    parts.push_back({trace_->new_sequence(), 0, segment.length, data_.domains[static_cast<size_t>(segment.domain)].name});
  }
  trace_->begin(std::move(parts));
  for (size_t first = 0; first < routes.size(); first += static_cast<size_t>(spec_.moe.iterations)) {
    std::vector<const moe::Routing*> iterations;
    for (int i = 0; i < spec_.moe.iterations; ++i) iterations.push_back(&routes[first + static_cast<size_t>(i)]->routing);
    trace_->add(routers_[first].layer, moe::join_visits(iterations));
  }
  trace_->end();
}

void Trainer::update_bias() {
  if (!spec_.moe.router.has_selection_bias) return;
  for (size_t router = 0; router < routers_.size(); ++router) {
    const auto [layer, iteration] = routers_[router];
    const std::span<const int64_t> load_E = load_of(router);
    const size_t first = static_cast<size_t>(iteration) * load_E.size();
    moe::update_selection_bias(weights_.vector(spec::Role::SelectionBias, layer).value.subspan(first, load_E.size()), load_E,
                               static_cast<float>(config_.balance.bias_rate));
  }
}

// Of this step, as many numbers as the router's layer has experts.
std::span<const int64_t> Trainer::load_of(size_t router) const {
  return step_load_.of_layer(static_cast<int>(router)).first(static_cast<size_t>(spec_.experts(routers_[router].layer)));
}

Json Trainer::load_figures() const {
  Json layers = Json::array();
  for (size_t router = 0; router < routers_.size(); ++router) {
    const moe::Balance balance = moe::balance_of(load_of(router));
    layers.push_back(
        {{"max_over_mean", balance.max_over_mean}, {"entropy", balance.entropy}, {"idle", balance.idle}});
  }
  return layers;
}

void Trainer::report_validation(Metrics& metrics, Progress& progress, bool last) {
  const auto batch = static_cast<size_t>(config_.train.batch);
  scores_ = validate(model_, data_, static_cast<size_t>(config_.train.sequence), batch,
                     last ? 0 : static_cast<size_t>(config_.validate.batches) * batch);
  Json domains = Json::array();
  std::string line = fmt::format("step {:>6}  bits per byte:", state_.step);
  for (const DomainScore& score : scores_) {
    domains.push_back({{"name", score.name},
                       {"nats_per_token", score.nats_per_token},
                       {"bits_per_byte", score.bits_per_byte},
                       {"tokens", score.tokens}});
    line += fmt::format("  {} {:.3f}", score.name, score.bits_per_byte);
  }
  Json report = {{"step", state_.step}, {"validation", domains}};
  if (last) report["final"] = true;
  metrics.add(report);
  progress.print(line);
}

void Trainer::checkpoint() {
  state_.domains = sampler_.state();
  write_checkpoint({dir_ / "checkpoints", data_.tokenizer}, spec_, weights_, optimizer_, state_);
  remove_old_checkpoints(dir_ / "checkpoints", config_.checkpoint.keep);
  last_checkpoint_ = Clock::now();
}

Outcome Trainer::run(const std::function<bool()>& stop) {
  begin_or_resume();
  first_step_ = state_.step;
  Metrics metrics(dir_ / "metrics.jsonl", state_.step);
  Progress progress("training", static_cast<double>(state_.steps), "steps");
  last_checkpoint_ = Clock::now();
  Outcome outcome{.was_finished = step_count_is_fixed() && state_.step >= state_.steps};

  const auto due = [](int64_t every, int64_t at) { return every > 0 && at % every == 0; };
  while (!step_count_is_fixed() || state_.step < state_.steps) {
    step(metrics);
    if (!step_count_is_fixed()) {
      fix_steps();
      if (step_count_is_fixed()) progress.set_total(static_cast<double>(state_.steps));
    }
    progress.update(static_cast<double>(state_.step),
                    fmt::format("loss {:.3f}  {} tokens/s", last_loss_,
                                short_number(static_cast<double>(state_.step - first_step_) *
                                             static_cast<double>(tokens_per_step()) / training_seconds_)));
    const bool last = step_count_is_fixed() && state_.step >= state_.steps;
    if (!last && due(config_.validate.every, state_.step)) report_validation(metrics, progress, false);
    const bool stopping = !last && stop();
    const bool by_clock = config_.checkpoint.minutes > 0 &&
                          seconds_since(last_checkpoint_) > config_.checkpoint.minutes * 60;
    // Before the number of steps is known there is nothing that could be gone on with.
    const bool wanted = last || stopping || due(config_.checkpoint.every, state_.step) || by_clock;
    if (wanted && step_count_is_fixed()) checkpoint();
    if (stopping) break;
  }
  progress.finish();

  outcome.finished = step_count_is_fixed() && state_.step >= state_.steps;
  if (outcome.finished) report_validation(metrics, progress, true);
  outcome.step = state_.step;
  outcome.steps = state_.steps;
  outcome.tokens = state_.tokens;
  outcome.seconds = training_seconds_;
  outcome.tokens_per_s = static_cast<double>((state_.step - first_step_) * static_cast<int64_t>(tokens_per_step())) /
                         std::max(1e-9, training_seconds_);
  if (const auto newest = newest_checkpoint(dir_ / "checkpoints")) outcome.checkpoint = newest->string();
  for (const DomainScore& score : scores_) {
    outcome.scores.push_back({score.name, score.nats_per_token, score.bits_per_byte});
  }
  return outcome;
}

}  // namespace

Outcome train(const TrainConfig& config, const TrainHooks& hooks) {
  keep_memory();
  const int threads = set_threads(config.run.threads);
  PreparedData data = prepare_data(config, threads);
  Trainer trainer(config, std::move(data));
  hooks.training_starts();
  return trainer.run(hooks.stop);
}

}  // namespace moiety::train
