#include "train/run.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/activity.h"
#include "base/say.h"
#include "base/system_memory.h"
#include "train/checkpoint.h"
#include "train/hyper_parameters.h"
#include "train/keep_memory.h"
#include "train/plan.h"
#include "train/run_record.h"
#include "train/snapshots.h"
#include "train/start.h"
#include "train/trainer.h"

namespace moiety::train {
namespace {

// A machine's processors are shared by the ranks on it.
int set_threads(int64_t wanted, const comm::Group* ranks) {
  cpu_set_t allowed;
  int threads = static_cast<int>(wanted);
  if (threads == 0) threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  if (wanted == 0 && ranks != nullptr) threads = std::max(1, threads / ranks->place().local_ranks);
  omp_set_num_threads(threads);
  at::set_num_threads(threads);
  return threads;
}

// What the run began with, else what the configuration and the step law say.
Chosen choose(const TrainConfig& config, const spec::ModelSpec& spec, const PreparedData& data) {
  const fs::path dir = config.run.dir;
  Plan plan = read_plan(dir);
  const bool has_begun = plan.steps > 0 || newest_checkpoint(dir / "checkpoints").has_value();
  if (plan.chosen && has_begun) return *plan.chosen;

  const auto tokens_per_second = [&] {
    if (!leaves_open(config)) return 0.0;
    constexpr int64_t kTokensAPass = 2048;
    TrainConfig probe = config;
    probe.trace.file.clear();
    probe.ranks = {};
    if (probe.train.batch == 0) probe.train.batch = std::max<int64_t>(1, kTokensAPass / probe.train.sequence);
    Activity unwatched;
    return Trainer(probe, data, unwatched).measure_tokens_per_second();
  };
  plan.chosen = choose_hyper_parameters(config, spec, tokens_per_second);
  if (leaves_open(config)) write_plan(dir, plan);
  return *plan.chosen;
}

// Some things are decided over all tokens of a pass at once, which no rank has.
void check_for_ranks(const TrainConfig& config) {
  const auto alone = [](bool is_asked, std::string_view key) {
    require(!is_asked, "{} looks at all tokens of a pass at once, and several ranks can't do that yet: leave it out, or train with one", key);
  };
  alone(config.train.capacity > 0, "train.capacity");
  alone(config.train.round_tokens > 0, "train.round_tokens");
  alone(config.train.receive_budget > 0, "train.receive_budget");
  alone(config.model.select == "expert_choice", "model.select = \"expert_choice\"");
}

// Throws Error(Input) on every rank, with the first key that differs on one of those where one does.
void check_same(TrainConfig settled, comm::Group& ranks) {
  settled.run.threads = 0;  // may be a machine's own affair
  const std::string mine = print_config(settled), of_first = ranks.tell("config", mine);
  const auto differs = std::ranges::mismatch(mine, of_first);
  std::array others{mine == of_first ? 0.0 : 1.0};
  ranks.sum(others);
  if (others[0] == 0) return;
  const auto line_at = [](const std::string& text, size_t at) {
    const size_t end = text.find('\n', at), begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;
    return text.substr(begin, end - begin);
  };
  require(mine == of_first, "rank {} was given \"{}\", rank 0 \"{}\": all ranks need the same configuration", ranks.rank(),
          line_at(mine, static_cast<size_t>(differs.in1 - mine.begin())), line_at(of_first, static_cast<size_t>(differs.in2 - of_first.begin())));
  fail(ErrorKind::Input, "{} of the other ranks was given another configuration than rank 0", others[0]);
}

}  // namespace

namespace {

struct Settled {
  TrainConfig config;
  PreparedData data;
};

// Rank 0 makes ready what the others find, and finds out what they read.
Settled settle(const TrainConfig& asked, comm::Group* ranks, Activity& activity) {
  const TrainConfig config = with_tokenizer_of_start(asked);
  const int threads = set_threads(config.run.threads, ranks);
  const bool is_first = ranks == nullptr || ranks->is_first();
  if (!is_first) {
    const Activity::Span span(&activity, "waiting for the data");
    ranks->tell("ready", {});
  }
  PreparedData data = prepare_data(config, threads);
  const spec::ModelSpec spec = spec_to_train(config, data);
  const Chosen chosen = is_first || !leaves_open(config) ? choose(config, spec, data) : read_plan(config.run.dir).chosen.value();
  TrainConfig settled = with_chosen(config, chosen);
  if (is_first) {
    say("{}: {}\n", config.run.dir, describe(config, chosen, spec));
    write_run_record(config, settled, spec);
  }
  return {std::move(settled), std::move(data)};
}

void agree_to_begin(const TrainConfig& config, comm::Group& ranks) {
  if (ranks.is_first()) ranks.tell("ready", "yes");
  check_same(config, ranks);
  check_for_ranks(config);
}

// The ranks that share something are as many as they were, or, where these no longer divide, the next larger group that does, or all. A number
// that can't be cut into stages has one, and where matrices and sequences can't be shared out each rank has them whole.
TrainConfig for_so_many(TrainConfig config, int ranks) {
  TrainConfig::Ranks& of = config.ranks;
  if (ranks % of.stages != 0) of.stages = of.virtual_stages = 1;
  const int64_t a_stage = ranks / of.stages;
  if (of.experts > 1) {
    while (of.experts < a_stage && a_stage % of.experts != 0) ++of.experts;
    of.experts = std::min(of.experts, a_stage);
  }
  if (a_stage % (of.tensor * of.sequence) != 0) of.tensor = of.sequence = 1;
  return config;
}

// The timeline and what a step should take are told of the first steps of all.
TrainHooks without_reports(TrainHooks hooks) {
  hooks.timeline.clear();
  hooks.explain = false;
  return hooks;
}

// An error after which the supervisor wants another generation is about ranks; any other is this rank's own.
bool is_about_ranks(comm::Crew& crew) {
  constexpr int kLooks = 300;
  for (int i = 0; i < kLooks; ++i) {
    if (crew.is_change_wanted()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace

Outcome train(const TrainConfig& asked, const TrainHooks& hooks, comm::Group* ranks) {
  keep_memory();
  Activity alone;
  Activity& activity = ranks != nullptr ? ranks->activity() : alone;
  const Settled settled = settle(asked, ranks, activity);
  if (ranks != nullptr) agree_to_begin(settled.config, *ranks);
  forget_peak_memory();
  Trainer trainer(settled.config, settled.data, activity, ranks);
  hooks.training_starts();
  return trainer.run(hooks);
}

Outcome train(const TrainConfig& asked, const TrainHooks& hooks, comm::Crew& crew) {
  keep_memory();
  Snapshots snapshots;
  std::optional<Settled> settled;
  TrainHooks now = hooks;
  const auto as_far_as_it_goes = [&]() -> std::optional<Outcome> {
    try {
      comm::Group& ranks = crew.ranks();
      if (!settled) settled.emplace(settle(asked, &ranks, ranks.activity()));
      else set_threads(settled->config.run.threads, &ranks);
      agree_to_begin(settled->config, ranks);
      const TrainConfig config = for_so_many(settled->config, ranks.size());
      forget_peak_memory();
      Trainer trainer(config, settled->data, ranks.activity(), &ranks, {&crew, &snapshots});
      hooks.training_starts();
      const Outcome outcome = trainer.run(std::exchange(now, without_reports(hooks)));
      if (!outcome.is_to_regroup) return outcome;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Io || !is_about_ranks(crew)) throw;
    }
    return std::nullopt;
  };
  for (;;) {
    if (auto outcome = as_far_as_it_goes()) return *outcome;
    if (!crew.regroup(snapshots.steps())) return {.has_retired = true};
  }
}

}  // namespace moiety::train
