// moiety-train: the executable that `moiety train` starts.
#include <CLI/CLI.hpp>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/build_id.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/say.h"
#include "comm/crew.h"
#include "comm/group.h"
#include "comm/launch.h"
#include "comm/supervisor.h"
#include "train/config.h"
#include "train/run.h"
#include "train/sweep_runner.h"

namespace {

using namespace moiety;

sigset_t both_signals() {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGINT);
  sigaddset(&both, SIGTERM);
  return both;
}

// Before the libraries' own initialisation, in which OpenBLAS starts threads: all threads inherit that they are not disturbed.
void block_signals() {
  const sigset_t both = both_signals();
  sigprocmask(SIG_BLOCK, &both, nullptr);
}
[[gnu::section(".preinit_array"), gnu::used]] void (*const g_block_signals)() = block_signals;

// SIGINT and SIGTERM reach one thread, which waits for them, and no handler ever runs: generated code, such as oneDNN's in libtorch, keeps its
// stack pointer in the middle of a buffer, and what the kernel pushes there for a handler overwrites what lies before the buffer.
class Signals {
 public:
  Signals() { std::thread(wait).detach(); }
  // From here on the first only asks for a checkpoint; a second ends the program at once, as any did before.
  static void remember_first() { remember_ = true; }
  static int first() { return first_; }

 private:
  static void wait() {
    const sigset_t both = both_signals();
    for (;;) {
      int signal = 0;
      if (sigwait(&both, &signal) != 0) continue;
      if (remember_ && first_ == 0) {
        first_ = signal;
      } else {
        pthread_sigmask(SIG_UNBLOCK, &both, nullptr);
        ::kill(::getpid(), signal);
      }
    }
  }
  static inline std::atomic<bool> remember_ = false;
  static inline std::atomic<int> first_ = 0;
};

struct Arguments {
  std::string config;
  std::vector<std::string> overrides, axes;
  int ranks = 1;
  int elastic = 0;  // ranks with which training goes on, at least; 0: a lost rank ends it
  bool replaces = false;
  int64_t patience = 0;  // seconds; 0: comm::Patience's own
  std::string timeline;
  int64_t timeline_steps = 20;
  bool explain = false;
  bool print_config = false, json = false;
  std::vector<std::string> words;  // as this program was called
};

Json optimizer_json(const train::OptimizerFigures& figures) {
  Json json = {{"state_bytes", figures.state_bytes},
               {"bytes_per_parameter", static_cast<double>(figures.state_bytes) / static_cast<double>(figures.parameters)},
               {"memory_bytes", figures.memory_bytes}};
  if (figures.streamed_groups == 0) return json;
  const train::StreamTimes& times = figures.times;
  json.update({{"groups", figures.groups},
               {"streamed_groups", figures.streamed_groups},
               {"seconds", times.visits},
               {"waited_seconds", times.waited},
               {"read_seconds", times.read},
               {"write_seconds", times.write},
               {"bytes_read", times.bytes_read},
               {"bytes_written", times.bytes_written},
               {"binds", times.binding()}});
  return json;
}

void print_json(const train::Outcome& outcome) {
  Json domains = Json::array();
  for (const train::FinalScore& score : outcome.scores) {
    domains.push_back({{"name", score.domain},
                       {"nats_per_token", score.nats_per_token},
                       {"bits_per_byte", score.bits_per_byte}});
  }
  const Json json = {{"finished", outcome.finished},     {"step", outcome.step},
                     {"steps", outcome.steps},           {"tokens", outcome.tokens},
                     {"seconds", outcome.seconds},       {"tokens_per_s", outcome.tokens_per_s},
                     {"checkpoint", outcome.checkpoint}, {"domains", domains},
                     {"checkpoints", {{"written", outcome.checkpoints.complete}, {"stalled_seconds", outcome.checkpoints.stalled}}},
                     {"activation_bytes", outcome.activation_bytes},
                     {"peak_memory_bytes", outcome.peak_bytes},
                     {"optimizer", optimizer_json(outcome.optimizer)}};
  std::puts(json.dump(2).c_str());
}

void print_summary(const train::Outcome& outcome) {
  if (outcome.was_finished) fmt::print("The run is complete: {} steps, {} tokens.\n", outcome.step, outcome.tokens);
  fmt::print("{:<20} {:>14} {:>14}\n", "held-out text of", "nats/token", "bits/byte");
  for (const train::FinalScore& score : outcome.scores) {
    fmt::print("{:<20} {:>14.4f} {:>14.4f}\n", score.domain, score.nats_per_token, score.bits_per_byte);
  }
  fmt::print("checkpoint: {}\n", outcome.checkpoint);
  if (const auto [complete, stalled] = outcome.checkpoints; complete > 0) {
    fmt::print("{} checkpoints written; training stood still {:.2f} s of {:.1f} s for them\n", complete, stalled, outcome.seconds);
  }
  if (const train::OptimizerFigures& o = outcome.optimizer; o.streamed_groups > 0) {
    fmt::print("optimizer state: {} of {} groups in a file; steps waited {:.1f} s of {:.1f} s for it, and {} binds\n", o.streamed_groups,
               o.groups, o.times.waited, o.times.visits, o.times.binding());
  }
}

comm::Patience patience(const Arguments& arguments) {
  if (arguments.patience == 0) return {};
  return {std::chrono::seconds(arguments.patience), std::chrono::seconds(arguments.patience)};
}

train::TrainHooks hooks_of(const Arguments& arguments) {
  return {Signals::remember_first, [] { return Signals::first() != 0; }, arguments.timeline, arguments.explain, arguments.timeline_steps};
}

// While the data is made ready a signal may just end the program: files are there as a whole or not at all.
train::Outcome train_alone_or_with(comm::Group* ranks, const train::TrainConfig& config, const Arguments& arguments) {
  try {
    return train::train(config, hooks_of(arguments), ranks);
  } catch (const std::exception& error) {
    if (ranks == nullptr) throw;
    ranks->leave("ended: " + comm::first_line(error));
    const std::string table = ranks->last_words();
    if (table.empty()) throw;
    fail(ErrorKind::Io, "{}\n{}", error.what(), std::string_view(table).substr(0, table.size() - 1));
  }
}

std::string card_of(const std::string& run) { return (fs::path(run) / "supervisor.json").string(); }

int run(const Arguments& arguments) {
  if (!arguments.axes.empty()) {
    Signals::remember_first();
    return train::run_sweep({arguments.config, arguments.overrides, arguments.axes, arguments.json}, Signals::first);
  }
  const train::TrainConfig config =
      train::parse_config(read_file(arguments.config), arguments.config, arguments.overrides);
  if (arguments.print_config) {
    std::fputs(train::print_config(config).c_str(), stdout);
    return 0;
  }

  const std::optional<comm::Place> place = comm::place_in([](const char* name) { return std::getenv(name); });
  if (arguments.elastic > arguments.ranks) fail(ErrorKind::Usage, "--elastic {}: --ranks {} are fewer to begin with", arguments.elastic, arguments.ranks);
  if (arguments.elastic > 0 && place && !place->worker) {
    fail(ErrorKind::Usage, "--elastic is of ranks that this program starts itself (--ranks); leave it out under another launcher");
  }
  if (arguments.elastic > 0 && !place) {
    Signals::remember_first();
    fs::create_directories(config.run.dir);
    return comm::supervise({.ranks = arguments.ranks, .at_least = arguments.elastic, .replaces = arguments.replaces, .words = arguments.words, .card = card_of(config.run.dir)},
                           Signals::first);
  }
  if (arguments.ranks > 1 && !place) {
    Signals::remember_first();
    return comm::launch(arguments.ranks, arguments.words, Signals::first);
  }
  const std::string alike = fmt::format("moiety {}, build {}", MOIETY_VERSION, build_id());
  std::optional<comm::Group> ranks;
  std::optional<comm::Crew> crew;
  if (place && place->worker) crew.emplace(*place, patience(arguments), alike);
  else if (place) ranks.emplace(*place, patience(arguments), alike);

  const train::Outcome outcome = crew ? train::train(config, hooks_of(arguments), *crew) : train_alone_or_with(ranks ? &*ranks : nullptr, config, arguments);
  if (outcome.has_retired) return 0;
  const bool speaks = crew ? crew->ranks().is_first() : !ranks || ranks->is_first();
  if (speaks && arguments.json) {
    print_json(outcome);
  } else if (speaks && outcome.finished) {
    print_summary(outcome);
  }
  if (outcome.finished) return 0;
  if (speaks) say("stopped after step {}; the same command {}\n", outcome.step,
      outcome.checkpoint.empty() ? "begins anew: there is no checkpoint yet"
                                 : "goes on from " + outcome.checkpoint);
  return 128 + (Signals::first() != 0 ? Signals::first() : SIGTERM);  // a signal may have come to another rank
}

// moiety train ctl RUN REQUEST…
int control(int argc, char** argv) {
  CLI::App app("Adds ranks to a run that trains with --elastic, and takes them away, between two steps.", "moiety train ctl");
  std::string run, request, worker;
  app.add_option("RUN", run, "the run's folder")->required();
  app.add_option("REQUEST", request, "add: start another rank; retire: let the last one go, or WORKER; status: who is there")->required()->check(CLI::IsMember({"add", "retire", "status"}));
  app.add_option("WORKER", worker, "its number, as status says it");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  fmt::print("{}\n", comm::tell_supervisor(card_of(run), worker.empty() ? request : request + " " + worker));
  return 0;
}

template <class Body>
int told(const Body& body) {
  try {
    return body();
  } catch (const moiety::Error& error) {
    say("moiety train: {}\n", error.what());
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  } catch (const std::exception& error) {
    // What libtorch throws goes on with a list of addresses.
    const std::string_view what = error.what();
    say("moiety train: {}\n", what.substr(0, what.find('\n')));
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Signals signals;
  std::signal(SIGPIPE, SIG_IGN);  // who writes to a peer that is gone hears of it as an error
  if (argc > 1 && std::string_view(argv[1]) == "ctl") return told([&] { return control(argc - 1, argv + 1); });
  Arguments arguments{.words = {argv, argv + argc}};
  CLI::App app("Trains a mixture-of-experts language model from text.\n"
               "A run that was interrupted goes on where its newest checkpoint is.", "moiety train");
  app.add_option("CONFIG.toml", arguments.config, "what to train, on what, for how long")->required();
  app.add_option("--set", arguments.overrides, "section.key=value: instead of what CONFIG.toml says")
      ->allow_extra_args(false);
  CLI::Option* const sweep =
      app.add_option("--sweep", arguments.axes, "section.key=value,value,…: a run for each value, and for each combination if repeated, in folders "
                     "of run.dir; keys parted by colons change together (a.b:c.d=1:2,3:4)")->allow_extra_args(false);
  CLI::Option* const ranks = app.add_option("--ranks", arguments.ranks, "train in so many processes on this machine; other launchers (torchrun, srun, mpirun) start this command themselves")
      ->check(CLI::Range(1, 1024))->capture_default_str()->excludes(sweep);
  CLI::Option* const elastic =
      app.add_option("--elastic", arguments.elastic, "with --ranks: when ranks are lost the others go on, if so many are left; \"moiety train ctl\" adds and retires some")
          ->check(CLI::Range(1, 1024))->needs(ranks)->excludes(sweep);
  app.add_flag("--replace", arguments.replaces, "start a new rank for each that is lost")->needs(elastic);
  app.add_option("--patience", arguments.patience, "seconds to wait for ranks that do not come (else 60) or hang in an exchange (else 300)")
      ->check(CLI::Range(1, 1'000'000))->excludes(sweep);
  CLI::Option* const timeline =
      app.add_option("--timeline", arguments.timeline, "write what each rank does when, as a Chrome trace that Perfetto opens")->excludes(sweep);
  app.add_option("--timeline-steps", arguments.timeline_steps, "of so many steps")->check(CLI::Range(1, 10'000))->capture_default_str()->needs(timeline);
  app.add_flag("--explain", arguments.explain, "measure products, memory and links first, and say after ten steps what a step should take and what it took")
      ->excludes(sweep);
  app.add_flag("--print-config", arguments.print_config, "print the whole configuration with its defaults and stop")
      ->excludes(sweep);
  app.add_flag("--json", arguments.json, "print the result as JSON");
  app.footer("Examples:\n  moiety train recipes/quickstart.toml --set train.minutes=10\n"
             "  moiety train recipes/quickstart.toml --sweep optimizer.lr=0.003,0.006 --sweep run.seed=1,2,3");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return told([&] { return run(arguments); });
}
