#include "train/sweep_runner.h"

#include <chrono>
#include <csignal>
#include <thread>

#include "base/file.h"
#include "base/say.h"
#include "comm/processes.h"
#include "runs/table.h"
#include "train/config.h"
#include "train/sweep.h"

namespace moiety::train {
namespace {

struct PlannedRun {
  std::string name;
  fs::path folder;
  std::vector<std::string> overrides;  // with the folder
  TrainConfig config;
  bool is_finished = false;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return out + "\"";
}

// What a run that is there already was made with must be what is wanted now, as far as it matters to its numbers.
void check_same(const Json& had, const Json& wanted, const fs::path& folder) {
  for (const auto& [key, value] : had.items()) {
    if (key.starts_with("run.") && key != "run.seed") continue;
    if (key.starts_with("checkpoint.") || key.starts_with("trace.") || !wanted.contains(key)) continue;
    require(wanted[key] == value, "{}: was made with {} = {}, and is wanted with {}; choose another run.dir or remove it", folder.string(), key,
            value.dump(), wanted[key].dump());
  }
}

// What could go wrong only after hours is looked at now.
void check(PlannedRun& run) {
  const std::string where = run.name;
  try {
    model_spec(run.config, static_cast<int>(run.config.tokenizer.vocab_size), 0);
  } catch (const Error& error) {
    fail(error.kind(), "{}: {}", where, error.what());
  }
  require(!run.config.domains.empty(), "the configuration names no text: it needs at least one [[domain]]");
  for (const DomainConfig& domain : run.config.domains) {
    for (const std::string& path : {domain.train, domain.valid}) {
      require(path.empty() || fs::exists(path), "{}: no such file or folder (domain {})", path, domain.name);
    }
  }
  if (!fs::exists(run.folder / "run.json") || !fs::exists(run.folder / "metrics.jsonl")) return;
  runs::Run had;
  try {
    had = runs::read_run(run.folder);
  } catch (const Error&) {
    return;  // not a step yet: it begins anew
  }
  check_same(had.config, flat_config(run.config), run.folder);
  run.is_finished = had.finished;
}

std::vector<PlannedRun> plan(const SweepArguments& arguments) {
  std::vector<Axis> axes;
  for (const std::string& axis : arguments.axes) axes.push_back(parse_axis(axis));
  const std::string text = read_file(arguments.config);
  const fs::path folder = parse_config(text, arguments.config, arguments.overrides).run.dir;
  std::vector<PlannedRun> runs;
  for (const Trial& trial : grid(axes)) {
    PlannedRun run{trial.name, folder / trial.name, arguments.overrides};
    run.overrides.insert(run.overrides.end(), trial.overrides.begin(), trial.overrides.end());
    run.overrides.push_back("run.dir=" + quoted(run.folder.string()));
    run.config = parse_config(text, arguments.config, run.overrides);
    check(run);
    runs.push_back(std::move(run));
  }
  return runs;
}

// Links what an earlier run made of the text into a new run's folder. Training looks whether it fits, and makes it anew if not.
void share_data(const fs::path& from, const fs::path& to) {
  if (fs::exists(to / "data") || !fs::exists(from / "tokenizer.json")) return;
  fs::create_directories(to / "data");
  std::error_code ignored;  // without links it only takes longer
  fs::create_hard_link(from / "tokenizer.json", to / "tokenizer.json", ignored);
  for (const fs::directory_entry& entry : fs::directory_iterator(from / "data")) {
    fs::create_hard_link(entry.path(), to / "data" / entry.path().filename(), ignored);
  }
}

// What the run would say at its end on stdout is left to the table.
pid_t start(const SweepArguments& arguments, const PlannedRun& run) {
  std::vector<std::string> words{"moiety train", arguments.config};
  for (const std::string& setting : run.overrides) words.insert(words.end(), {"--set", setting});
  return comm::start_process(std::move(words), {}, /*is_silent=*/true);
}

// The exit status, 128 and the signal if one ended it.
int wait_for(pid_t child, const std::function<int()>& signal) {
  bool told = false;
  for (;;) {
    if (const comm::Ended ended = comm::look_after(child); ended.has_ended) return ended.status;
    if (signal() != 0 && !told) {
      ::kill(child, SIGTERM);
      told = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void print_comparison(const std::vector<PlannedRun>& planned, bool json) {
  std::vector<runs::Run> done;
  for (const PlannedRun& run : planned) {
    if (run.is_finished) done.push_back(runs::read_run(run.folder));
  }
  if (done.empty()) return;
  const runs::Budgets budgets = runs::common_budgets(done);
  const auto groups = runs::group_runs(done, budgets);
  if (json) {
    fmt::print("{}\n", runs::comparison_json(done, groups, budgets).dump());
  } else {
    fmt::print("{}", runs::comparison_table(done, groups, budgets));
  }
}

}  // namespace

int run_sweep(const SweepArguments& arguments, const std::function<int()>& signal) {
  std::vector<PlannedRun> planned = plan(arguments);
  const PlannedRun* earlier = nullptr;
  std::vector<std::string> failed;
  for (size_t i = 0; i < planned.size(); ++i) {
    PlannedRun& run = planned[i];
    say("run {} of {}: {}{}\n", i + 1, planned.size(), run.name, run.is_finished ? ": finished already" : "");
    if (!run.is_finished) {
      if (earlier != nullptr) share_data(earlier->folder, run.folder);
      const int status = wait_for(start(arguments, run), signal);
      if (signal() != 0) {
        say("the sweep was stopped at {}; the same command goes on\n", run.name);
        return 128 + signal();
      }
      run.is_finished = status == 0;
      if (status != 0) failed.push_back(run.name);
    }
    if (run.is_finished) earlier = &run;
  }
  print_comparison(planned, arguments.json);
  for (const std::string& name : failed) say("moiety train: the run {} failed\n", name);
  return failed.empty() ? 0 : 1;
}

}  // namespace moiety::train
