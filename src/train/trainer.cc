#include "train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <iterator>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "base/activity.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/say.h"
#include "base/system_memory.h"
#include "format/safetensors.h"
#include "moe/join.h"
#include "trace/trace_recorder.h"
#include "train/by_rank.h"
#include "train/explain.h"
#include "train/loops.h"
#include "train/metrics.h"
#include "train/micro_batch.h"
#include "train/optimizer.h"
#include "train/permutation_search.h"
#include "train/plan.h"
#include "train/routing_figures.h"
#include "train/rule_schedule.h"
#include "train/sampler.h"
#include "train/schedule.h"
#include "train/selection_bias.h"
#include "train/spawn.h"
#include "train/start.h"
#include "train/timeline.h"
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

// What model.router_trained is about.
constexpr spec::Role kRouterRoles[] = {spec::Role::Router,   spec::Role::RouterBias,      spec::Role::GatingResidual,
                                       spec::Role::GateDown, spec::Role::GateTemperature, spec::Role::GateLeaf,
                                       spec::Role::GruInput, spec::Role::GruState,        spec::Role::GruInputBias,
                                       spec::Role::GruStateBias};

Weights trained_weights(const spec::ModelSpec& spec, const TrainConfig& config, RankLayout& ranks) {
  Weights weights(spec, ranks.expert_share(), ranks.stage_share(), ranks.tensor_share());
  if (config.train.precision == "bf16" && config.train.packed) weights.keep_packed(spec);
  if (!config.model.router_trained) {
    for (const spec::Role role : kRouterRoles) weights.freeze(role);
  }
  const int experts = static_cast<int>(config.train.frozen_experts), attention_experts = static_cast<int>(config.train.frozen_attention_experts);
  if (experts + attention_experts > 0) weights.freeze_old(experts, attention_experts);
  return weights;
}

std::string name_of(const RouterPlace& place) {
  return place.iteration == 0 ? fmt::format("layer {}", place.layer) : fmt::format("layer {}, iteration {}", place.layer, place.iteration + 1);
}

std::vector<std::string> names_of(const std::vector<RouterPlace>& places) {
  std::vector<std::string> names;
  for (const RouterPlace& place : places) names.push_back(name_of(place));
  return names;
}

// Experts that change places take their moments with them, so every rank must have them.
TrainConfig::Optimizer optimizer_settings(const TrainConfig& config) {
  TrainConfig::Optimizer settings = config.optimizer;
  if (config.anneal.search_steps > 0) settings.shared = false;
  return settings;
}

BalanceScope scope_of(const std::string& name) {
  return name == "micro" ? BalanceScope::Micro : name == "sequence" ? BalanceScope::Sequence : BalanceScope::Global;
}

std::string describe_homes(const Json& rehomed) {
  return fmt::format("{} experts have changed ranks: the slowest of each layer expects {:.2f} times the mean rank's visits, and had {:.2f}",
                     rehomed["experts"].get<int>(), rehomed["slowest_after"].get<double>(), rehomed["slowest_before"].get<double>());
}

Mode mode_of(const TrainConfig::Train& config) {
  return {config.precision == "bf16" ? GemmType::Bf16 : GemmType::F32, config.keep == "inputs" ? Keep::Inputs : Keep::Products};
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, const PreparedData& data, Activity& activity, comm::Group* ranks, const Elastic& elastic)
    : config_(config),
      activity_(activity),
      ranks_(config.ranks, ranks),
      elastic_(elastic),
      dir_(config.run.dir),
      data_(data),
      spec_(spec_to_train(config, data_)),
      weights_(trained_weights(spec_, config, ranks_)),
      optimizer_(optimizer_settings(config), weights_, dir_, ranks_.mesh()),
      model_(spec_, weights_, mode_of(config.train), ranks_.experts(), ranks_.tensor()),
      sampler_(domains(), static_cast<size_t>(config.train.sequence), static_cast<uint64_t>(config.run.seed)),
      health_(names_of(routers_of(spec_)), experts_by_router(spec_)),
      routers_(routers_of(spec_)),
      step_routing_(experts_by_router(spec_)),
      homes_(spec_, config.ranks.rebalance, config.ranks.flops_a_byte),
      checkpoints_({dir_ / "checkpoints", data_.tokenizer}, config.checkpoint.keep, spec_, ranks_.all()),
      guard_(config, data_, spec_, weights_, optimizer_, checkpoints_, ranks_.all()) {
  if (ranks_.stage_share().stages > 1) pipeline_.emplace(model_, *ranks_.mesh(), ranks_.stage_share());
  if (config.anneal.search_steps > 0) {
    require(elastic.crew == nullptr, "anneal.search_steps: a search for the experts' order needs ranks that stay; leave out --elastic");
    require(spec_.moe.iterations == 1, "anneal.search_steps: in a chain of experts several routers share them, and they have one order");
    search_.emplace(config.anneal, static_cast<uint64_t>(config.run.seed), experts_by_router(spec_));
  }
  if (config.trace.file.empty() || !is_first()) return;
  trace_writer_.emplace(config.trace.file, trace::header_of(spec_, trace::model_name(dir_)));
  trace_.emplace(*trace_writer_);
}

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

// False if there is none, or lost ranks held what nobody else did.
bool Trainer::go_on_from_snapshot() {
  const int64_t step = elastic_.crew == nullptr ? -1 : elastic_.crew->generation().step;
  if (step < 0) return false;
  const auto restored = elastic_.snapshots->restore(step, state_tensors(weights_, optimizer_), *ranks_.all());
  if (!restored) {
    if (is_first()) say("ranks were lost that held the same of step {}: training goes on from the newest checkpoint\n", step);
    return false;
  }
  const std::string where = fmt::format("step {}", step);
  weights_.read(restored->tensors, where, weights_.values());
  optimizer_.read_state(restored->tensors, where);
  state_ = run_state_from(restored->where, where);
  sampler_.restore(state_.domains, where);
  guard_.restore(state_.usual, where);
  health_.restore(state_.routers, where);
  return true;
}

void Trainer::keep_snapshot() {
  if (elastic_.crew == nullptr) return;
  const Activity::Span span(&activity_, "snapshot");
  note_state();
  elastic_.snapshots->commit(state_.step, state_tensors(weights_, optimizer_), to_json(state_), *ranks_.all());
  elastic_.crew->set_step_seconds(last_step_seconds_);
}

// Until enough ranks are there, or it is told to stop.
void Trainer::rest(const TrainHooks& hooks) {
  if (step_count_is_fixed()) checkpoint();
  checkpoints_.finish();
  while (!hooks.stop() && !elastic_.crew->is_change_wanted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

// How long what took, in seconds.
Json Trainer::regrouped() const {
  const comm::Generation& generation = elastic_.crew->generation();
  const double left_at = elastic_.crew->left_at(), met_at = elastic_.crew->met_at();
  Json line = {{"generation", generation.number}, {"ranks", generation.workers.size()}, {"from_step", generation.step}, {"why", generation.why},
               {"left_at", left_at}, {"regroup", met_at - left_at}, {"restore", going_at_ - met_at}, {"step", comm::crew::now() - going_at_}};
  if (generation.lost_at > 0) line["notice"] = left_at - generation.lost_at;
  return line;
}

void Trainer::begin_or_resume() {
  if (go_on_from_snapshot()) return;
  state_.steps = config_.train.minutes == 0 ? config_.train.steps : read_plan(dir_).steps;
  if (const auto found = newest_checkpoint(dir_ / "checkpoints")) {
    const int64_t wanted = state_.steps;
    state_ = read_checkpoint(*found, spec_, weights_, optimizer_);
    // A run given in steps may be made longer; one given in minutes was fixed when it began.
    if (config_.train.minutes == 0) state_.steps = wanted;
    sampler_.restore(state_.domains, found->string());
    guard_.restore(state_.usual, found->string());
    health_.restore(state_.routers, found->string());
    if (!searches()) return;
    const fs::path state = *found / "optimizer.safetensors";
    search_->read_state(format::SafetensorsFile(state).tensors(), state.string());
  } else {
    begin(config_, spec_, weights_);
  }
}

// What is not in state_ while steps are made.
void Trainer::note_state() {
  state_.domains = sampler_.state();
  state_.usual = guard_.state();
  state_.routers = health_.state();
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
  Plan plan = read_plan(dir_);
  plan.steps = state_.steps;
  plan.seconds_per_step = a_step;
  write_plan(dir_, plan);
}

Trainer::MicroBatch Trainer::next_micro_batch(int64_t number) {
  const Activity::Span span(&activity_, "data");
  Batch whole = sampler_.next(static_cast<size_t>(config_.train.batch));
  whole.draw = 1 | Random(static_cast<uint64_t>(config_.run.seed), static_cast<uint64_t>(state_.step), static_cast<uint64_t>(number)).next();
  Batch batch = ranks_.part_of(whole);
  const float tokens = static_cast<float>(batch.num_tokens()) / static_cast<float>(whole.num_tokens());
  const float targets = static_cast<float>(batch.num_targets()) / static_cast<float>(std::max<size_t>(1, whole.num_targets()));
  if (whole.damage && !traces_.damage) traces_.damage = whole.damage;
  return {std::move(batch), tokens, targets};
}

// What has been done of a micro-batch, by layers or by pieces.
void Trainer::add(const MicroBatch& of, const TrainedMicroBatch& done, bool tells_load, StepSums& sums) {
  const auto accumulate = static_cast<float>(config_.train.accumulate);
  // Means over the pass are made of means over its parts.
  sums.loss += of.targets * done.cross_entropy / accumulate;
  sums.balance += of.tokens * done.balance / accumulate;
  sums.z += of.tokens * done.z / accumulate;
  sums.entropy += of.tokens * done.entropy / accumulate;
  sums.spread += of.tokens * done.spread / accumulate;
  sums.consistency += of.targets * done.consistency / accumulate;
  sums.reruns += done.passes.size() > 1;
  activation_bytes_ = std::max(activation_bytes_, done.activation_bytes);
  for (const TrainedPass& pass : done.passes) {
    add_text_losses(pass.batch, pass.nats_T, traces_.texts);
    step_routing_.add(pass.routes, tells_load);
    for (size_t router = 0; router < pass.routes.size(); ++router) {
      if (pass.routes[router]) step_choices_.add_choices(static_cast<int>(router), pass.routes[router]->plan->routing);
    }
    add_cut_offs(pass.routes, 1 / accumulate, cut_offs_);
    if (trace_ && state_.step % config_.trace.every == 0) record(pass.batch, pass.routes);
  }
}

// Of every pass each rank of a stage has a share.
Share Trainer::my_share() {
  comm::Mesh* const mesh = ranks_.mesh();
  if (mesh == nullptr) return {};
  return {static_cast<size_t>(mesh->place_in_stage()), static_cast<size_t>(mesh->stage_size()), mesh->stage() == mesh->stages() - 1, ranks_.sum()};
}

// How many steps rank 0 has fixed, whether anybody is to stop, whether rank 0 wants a checkpoint, and how far the last one is; and where each
// rank's time went.
Trainer::Agreed Trainer::agree(int64_t steps, bool stopping, bool saving) {
  comm::Group* const all = ranks_.all();
  const CheckpointWriter::News saved = checkpoints_.news();
  if (all == nullptr) return {steps, stopping, saving, false, saved};
  const bool speaks = is_first();
  std::vector<double> told = by_rank_->mine(activity_, last_step_seconds_, visits_, all->bytes_sent());
  const size_t figures = told.size();
  const bool regroups = speaks && elastic_.crew != nullptr && elastic_.crew->is_change_wanted();
  told.insert(told.end(), {speaks ? static_cast<double>(steps) : 0, stopping ? 1.0 : 0, speaks && saving ? 1.0 : 0, regroups ? 1.0 : 0, saved.written, saved.failed});
  {
    const Activity::Span span(&activity_, "agree");
    all->sum(told);
  }
  by_rank_->add(std::span(told).first(figures));
  return {std::llround(told[figures]), told[figures + 1] > 0, told[figures + 2] > 0, told[figures + 3] > 0, {told[figures + 4], told[figures + 5]}};
}

// Returns the line for metrics.jsonl.
Json Trainer::step() {
  const auto start = Clock::now();
  const Activity::Span in_step(&activity_, "step", state_.step + 1);
  activity_.begin_count();
  const auto accumulate = static_cast<float>(config_.train.accumulate);
  const LossWeights loss_weights{static_cast<float>(config_.balance.aux_loss),
                                 static_cast<float>(config_.balance.z_loss),
                                 static_cast<float>(config_.balance.entropy_loss + config_.balance.mutual_information),
                                 static_cast<float>(config_.balance.consistency),
                                 /*cross_entropy=*/1,
                                 static_cast<float>(config_.balance.concentration - config_.balance.mutual_information)};
  if (config_.anneal.spawn_step > 0 && state_.step == config_.anneal.spawn_step) {
    checkpoints_.let_go();
    spawn_experts(weights_, config_.anneal.spawn_noise, static_cast<uint64_t>(config_.run.seed));
    guard_.forget_usual();
  }
  PassOrder order = pass_order();
  const bool is_searching = searches();
  if (is_searching) order.shares = &search_->relax(search_step());
  const bool tells_load = (state_.step + 1) % kLoadEvery == 0;
  step_routing_ = RoutingFigures(experts_by_router(spec_));
  step_choices_ = moe::Load(static_cast<int>(routers_.size()), spec_.moe.router.num_choices());
  cut_offs_.assign(routers_.size(), std::vector<float>(static_cast<size_t>(spec_.moe.router.num_experts), 0.0f));
  if (order.scope == BalanceScope::Global) order.others = &step_choices_;
  activation_bytes_ = 0;
  traces_ = {};
  StepSums sums;
  if (pipeline_) {
    std::vector<MicroBatch> all;
    std::vector<Pipeline::Pass> passes;
    for (int64_t i = 0; i < config_.train.accumulate; ++i) {
      all.push_back(next_micro_batch(i));
      passes.push_back({all.back().batch, loss_weights.of_part(all.back().tokens, all.back().targets)});
    }
    pipeline_->train(passes, order, 1 / accumulate, [&](size_t i, const TrainedMicroBatch& of_chunk) { add(all[i], of_chunk, tells_load, sums); });
  } else {
    for (int64_t i = 0; i < config_.train.accumulate; ++i) {
      const MicroBatch next = next_micro_batch(i);
      add(next, train_micro_batch(model_, next.batch, loss_weights.of_part(next.tokens, next.targets), order, 1 / accumulate), tells_load, sums);
    }
  }
  auto [loss, balance, z, entropy, spread, consistency, reruns] = sums;
  double damaged = traces_.damage.has_value();
  visits_ = visits_of(step_routing_.load());
  if (comm::Group* const all = ranks_.all()) {
    if (is_searching) {
      for (const WeightMatrix& share_EE : *order.shares) all->sum(share_EE.gradient.flat());
    }
    std::array of_all{loss, balance, z, entropy, spread, consistency, damaged};
    all->sum(of_all);
    std::tie(loss, balance, z, entropy, spread, consistency, damaged) = std::tuple_cat(of_all);
    step_routing_.sum(ranks_.sum());
  }
  // What the passes were held to one after the other grew towards this.
  if (order.scope == BalanceScope::Global && spec_.moe.router.zero_cost_experts() == 0) balance = step_routing_.balance_loss();

  const double rate = learning_rate(schedule(), config_.optimizer.lr, state_.step, std::max<int64_t>(1, state_.steps));
  const Verdict verdict = guard_.judge({loss, measure_gradients(), damaged > 0});
  Json bad;
  int64_t moved = 0;
  std::optional<HomeChanges> rehomed;
  if (verdict.is_bad()) {
    if (const auto router = step_routing_.no_numbers()) traces_.router = name_of(routers_[*router]);
    bad = guard_.pass_over(verdict, std::move(traces_), state_.step);
  } else {
    change_weights(rate);
    if (!order.first_expert_only) health_.add(step_routing_.load());
    moved = is_searching ? follow_search(rate) : 0;
    rehomed = rehome();
    last_loss_ = loss;
  }
  ++state_.step;
  state_.tokens += static_cast<int64_t>(tokens_per_step());

  const double seconds = last_step_seconds_ = seconds_since(start);
  training_seconds_ += seconds;
  Json line = {{"step", state_.step},
               {"loss", loss},
               {"balance_loss", balance},
               {"z_loss", z},
               {"entropy_loss", entropy},
               {"spread", spread},
               {"grad_norm", verdict.figures.norm},
               {"lr", rate},
               {"tokens", state_.tokens},
               {"seconds", seconds},
               {"tokens_per_s", std::round(static_cast<double>(tokens_per_step()) / seconds)},
               {"dropped", step_routing_.dropped_share()}};
  if (config_.balance.consistency > 0) line["consistency"] = consistency;
  if (verdict.is_bad()) line["bad"] = bad;
  if (is_searching) line["moved"] = moved;
  if (rehomed) line["rehomed"] = rehomed->to_json();
  if (reruns > 0) line["reruns"] = reruns;
  if (tells_load) line["load"] = step_routing_.by_layer();
  if (tells_load && !verdict.is_bad() && !order.first_expert_only) {
    if (const auto news = health_.look(line["load"]); !news.empty()) line["routers"] = news;
  }
  if (tells_load) add_rules(order, line);
  return line;
}

// Returns the norm of their sums over ranks.
double Trainer::measure_gradients() {
  const Activity::Span span(&activity_, "optimizer");
  return optimizer_.measure();
}

void Trainer::change_weights(double learning_rate) {
  checkpoints_.let_go();
  {
    const Activity::Span span(&activity_, "optimizer");
    optimizer_.update(state_.step, learning_rate);
  }
  if (spec_.moe.router.has_selection_bias && state_.step >= config_.anneal.spawn_step) update_bias(config_.balance, spec_, state_.step, {step_routing_, cut_offs_}, weights_);
}

// How many experts have changed places.
int64_t Trainer::follow_search(double learning_rate) {
  const std::vector<std::vector<int32_t>> moves = search_->follow(search_step(), adam_step(config_.optimizer, search_step(), learning_rate));
  int64_t moved = 0;
  for (size_t router = 0; router < moves.size(); ++router) {
    if (moves[router].empty()) continue;
    optimizer_.move_experts(routers_[router].layer, moves[router]);
    for (size_t place = 0; place < moves[router].size(); ++place) moved += moves[router][place] != static_cast<int32_t>(place);
  }
  return moved;
}

// Experts go to other ranks, if that makes the slowest faster; whoever knows what is where hears of it.
std::optional<HomeChanges> Trainer::rehome() {
  const auto changes = homes_.look(step_routing_.load(), weights_);
  if (!changes) return std::nullopt;
  checkpoints_.let_go();
  move_experts(*changes, weights_, optimizer_, *ranks_.all());
  checkpoints_.lay_out_anew();
  if (elastic_.crew != nullptr) elastic_.snapshots->lay_out(state_tensors(weights_, optimizer_), *ranks_.all());
  return changes;
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
    for (int i = 0; i < spec_.moe.iterations; ++i) iterations.push_back(&routes[first + static_cast<size_t>(i)]->plan->routing);
    trace_->add(routers_[first].layer, moe::join_visits(iterations));
  }
  trace_->end();
}

// What the passes of this step are told.
PassOrder Trainer::pass_order() {
  return {.rules_L = rules_at(config_.anneal, spec_, state_.step, state_.steps),
          .first_expert_only = state_.step < config_.anneal.spawn_step,
          .router_trained = config_.model.router_trained,
          .scope = scope_of(config_.balance.scope),
          .sum_over_ranks = ranks_.sum_in_stage(),
          .zero_cost_balance = static_cast<float>(config_.balance.zero_cost),
          .capacity = config_.train.capacity,
          .recompute_layers = config_.train.recompute == "layers",
          .round_tokens = static_cast<int>(config_.train.round_tokens),
          .budget = {config_.train.receive_budget, static_cast<int>(config_.train.receive_sets)},
          .clustering = {config_.train.cluster_tokens, config_.train.cluster_residual},
          .activity = &activity_};
}

// The rules of this step, where a schedule moves them.
void Trainer::add_rules(const PassOrder& order, Json& line) const {
  Json experts = Json::array(), temperature = Json::array();
  for (int layer = 0; layer < spec_.num_layers; ++layer) {
    if (spec_.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Dense) continue;
    experts.push_back(order.first_expert_only ? 1 : order.rules_L[static_cast<size_t>(layer)].experts_per_token);
    temperature.push_back(order.rules_L[static_cast<size_t>(layer)].temperature);
  }
  if (config_.anneal.experts_from > 0 || config_.anneal.spawn_step > 0) line["experts_per_token"] = experts;
  if (config_.anneal.temperature_from > 0) line["temperature"] = temperature;
}

// Returns the line for metrics.jsonl.
Json Trainer::validate_now(bool last) {
  const Activity::Span span(&activity_, "validation");
  const auto batch = static_cast<size_t>(config_.train.batch);
  // By the rules of the next step, which are those of the model once all schedules have ended.
  const PassOrder training = pass_order();
  const auto forward = [this](const Batch& pass, Routes* routes, const PassOrder& order) {
    return pipeline_ ? pipeline_->forward(pass, routes, order) : model_.forward(pass, {}, routes, order);
  };
  scores_ = validate(forward, spec_, data_, {.rules_L = training.rules_L, .first_expert_only = training.first_expert_only}, static_cast<size_t>(config_.train.sequence), batch,
                     last ? 0 : static_cast<size_t>(config_.validate.batches) * batch, my_share());
  Json report = {{"step", state_.step}};
  report.update(report_of(scores_));
  if (last) report["final"] = true;
  return report;
}

// It is written while training goes on.
void Trainer::checkpoint() {
  const Activity::Span span(&activity_, "checkpoint");
  last_checkpoint_ = Clock::now();
  note_state();
  checkpoints_.begin(weights_, optimizer_, state_, searches() ? search_->state_tensors() : std::vector<format::TensorView>());
}

Outcome Trainer::run(const TrainHooks& hooks) {
  begin_or_resume();
  first_step_ = state_.step;
  if (elastic_.crew != nullptr) {
    elastic_.snapshots->lay_out(state_tensors(weights_, optimizer_), *ranks_.all());
    keep_snapshot();
    going_at_ = comm::crew::now();
    if (elastic_.crew->generation().is_resting) {
      rest(hooks);
      return {.is_to_regroup = !hooks.stop(), .step = state_.step, .steps = state_.steps};
    }
  }
  std::optional<Metrics> metrics;
  std::optional<Progress> progress;
  if (is_first()) {
    metrics.emplace(dir_ / "metrics.jsonl", state_.step);
    progress.emplace("training", static_cast<double>(state_.steps), "steps");
  }
  comm::Group* const all = ranks_.all();
  if (all != nullptr) by_rank_.emplace(all->rank(), all->size());
  std::optional<Timeline> timeline;
  if (!hooks.timeline.empty()) timeline.emplace(hooks.timeline, hooks.timeline_steps, activity_, all);
  std::optional<Explainer> explainer;
  if (hooks.explain) {
    const auto sequences = static_cast<size_t>(config_.train.batch) / my_share().ranks;
    const StageShare stages = ranks_.stage_share();
    explainer.emplace(spec_, mode_of(config_.train).type, sequences, static_cast<size_t>(config_.train.sequence),
                      PipelineShape{stages.stages, stages.chunks, static_cast<int>(config_.train.accumulate)}, all);
  }
  const bool goes_on = elastic_.crew != nullptr && elastic_.crew->generation().number > 0;
  last_checkpoint_ = goes_on ? last_sealed(dir_ / "checkpoints") : Clock::now();
  Outcome outcome{.was_finished = step_count_is_fixed() && state_.step >= state_.steps};

  const auto due = [](int64_t every, int64_t at) { return every > 0 && at % every == 0; };
  while (!step_count_is_fixed() || state_.step < state_.steps) {
    Json line = step();
    if (explainer && explainer->step_ended(activity_, last_step_seconds_)) {
      if (is_first()) progress->print(explainer->text());
      explainer.reset();
    }
    if (!step_count_is_fixed() && is_first()) fix_steps();
    const bool clock_says = config_.checkpoint.minutes > 0 && seconds_since(last_checkpoint_) > config_.checkpoint.minutes * 60;
    const auto [steps, asked_to_stop, by_clock, regroups, saved] = agree(state_.steps, hooks.stop(), clock_says);
    state_.steps = steps;
    if (const auto lost = checkpoints_.hear(saved)) {
      if (progress) progress->print(*lost);
      else say("{}\n", *lost);
    }
    if (is_first()) {
      if (by_rank_ && state_.step % kLoadEvery == 0) line["ranks"] = by_rank_->take_means();
      if (line.contains("rehomed")) progress->print(fmt::format("step {:>6}  {}", state_.step, describe_homes(line["rehomed"])));
      if (goes_on && state_.step == first_step_ + 1) line["regrouped"] = regrouped();
      metrics->add(line);
      if (by_rank_) {
        if (const auto sentence = by_rank_->news()) progress->print(fmt::format("step {:>6}  {}", state_.step, *sentence));
        progress->set_rows(by_rank_->table());
      }
      for (const Json& news : line.value("routers", Json::array())) progress->print(fmt::format("step {:>6}  {}", state_.step, news.get<std::string>()));
      if (line.contains("bad")) progress->print(fmt::format("step {:>6}  {}", state_.step, line["bad"]["sentence"].get<std::string>()));
      progress->set_total(static_cast<double>(steps));
      progress->update(static_cast<double>(state_.step), fmt::format("loss {:.3f}  {} tokens/s", last_loss_, short_number(tokens_per_second())));
    }
    const bool last = step_count_is_fixed() && state_.step >= state_.steps;
    if (!last && due(config_.validate.every, state_.step)) {
      const Json report = validate_now(false);
      if (is_first()) metrics->add(report);
      if (is_first()) progress->print(fmt::format("step {:>6}  {}", state_.step, describe(scores_)));
    }
    const bool stopping = !last && asked_to_stop;
    // Before the number of steps is known there is nothing that could be gone on with.
    const bool wanted = last || stopping || due(config_.checkpoint.every, state_.step) || by_clock;
    if (!last && !stopping) keep_snapshot();
    if (wanted && step_count_is_fixed()) checkpoint();
    if (timeline) timeline->step_ended();
    if (stopping) break;
    if (regroups && !last) {
      checkpoints_.finish();
      return {.is_to_regroup = true};
    }
  }
  if (timeline) timeline->finish();
  if (progress) progress->finish();

  outcome.finished = step_count_is_fixed() && state_.step >= state_.steps;
  if (outcome.finished) {
    const Json report = validate_now(true);
    if (is_first()) metrics->add(report);
    if (is_first()) progress->print(fmt::format("step {:>6}  {}", state_.step, describe(scores_)));
  }
  checkpoints_.finish();
  if (is_first()) metrics->finish();
  outcome.step = state_.step;
  outcome.steps = state_.steps;
  outcome.tokens = state_.tokens;
  outcome.seconds = training_seconds_;
  outcome.optimizer = optimizer_.figures();
  outcome.activation_bytes = activation_bytes_;
  outcome.peak_bytes = peak_memory();
  outcome.checkpoints = checkpoints_.figures();
  outcome.tokens_per_s = tokens_per_second();
  if (const auto newest = newest_checkpoint(dir_ / "checkpoints")) outcome.checkpoint = newest->string();
  for (const DomainScore& score : scores_) {
    outcome.scores.push_back({score.name, score.nats_per_token, score.bits_per_byte});
  }
  return outcome;
}

double Trainer::measure_tokens_per_second() {
  constexpr int kSteps = 10;
  weights_.initialise(spec_, static_cast<uint64_t>(config_.run.seed));
  // The fastest counts: the first ones fault their memory in, and whatever else runs on the machine only slows.
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kSteps; ++i) {
    const auto start = Clock::now();
    const Batch batch = sampler_.next(static_cast<size_t>(config_.train.batch));
    model_.forward(batch, {}, nullptr).total.backward();
    optimizer_.step(i, /*learning_rate=*/0);
    fastest = std::min(fastest, seconds_since(start));
  }
  return static_cast<double>(config_.train.batch * config_.train.sequence) / fastest;
}

}  // namespace moiety::train
