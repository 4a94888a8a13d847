#include "train/run.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <array>

#include "base/activity.h"
#include "base/system_memory.h"
#include "train/checkpoint.h"
#include "train/hyper_parameters.h"
#include "train/keep_memory.h"
#include "train/plan.h"
#include "train/run_record.h"
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

Outcome train(const TrainConfig& asked, const TrainHooks& hooks, comm::Group* ranks) {
  keep_memory();
  const TrainConfig config = with_tokenizer_of_start(asked);
  const int threads = set_threads(config.run.threads, ranks);
  const bool is_first = ranks == nullptr || ranks->is_first();
  // Rank 0 makes ready what the others find, and finds out what they read.
  Activity alone;
  Activity& activity = ranks != nullptr ? ranks->activity() : alone;
  if (!is_first) {
    const Activity::Span span(&activity, "waiting for the data");
    ranks->tell("ready", {});
  }
  const PreparedData data = prepare_data(config, threads);
  const spec::ModelSpec spec = spec_to_train(config, data);
  const Chosen chosen = is_first || !leaves_open(config) ? choose(config, spec, data) : read_plan(config.run.dir).chosen.value();
  const TrainConfig settled = with_chosen(config, chosen);
  if (is_first) {
    fmt::print(stderr, "{}: {}\n", config.run.dir, describe(config, chosen, spec));
    write_run_record(config, settled, spec);
  }
  if (ranks != nullptr) {
    if (is_first) ranks->tell("ready", "yes");
    check_same(settled, *ranks);
    check_for_ranks(settled);
  }

  forget_peak_memory();
  Trainer trainer(settled, data, activity, ranks);
  hooks.training_starts();
  return trainer.run(hooks);
}

}  // namespace moiety::train
