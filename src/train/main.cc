// moiety-train: the executable that `moiety train` starts.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "train/config.h"
#include "train/trainer.h"

namespace {

using namespace moiety;

volatile std::sig_atomic_t g_signal = 0;
// The first asks for a checkpoint; a second of the same kind ends the program at once.
void remember_signal(int signal) {
  g_signal = signal;
  std::signal(signal, SIG_DFL);
}

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false, json = false;
};

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
                     {"checkpoint", outcome.checkpoint}, {"domains", domains}};
  std::puts(json.dump(2).c_str());
}

void print_summary(const train::Outcome& outcome) {
  if (outcome.was_finished) fmt::print("The run is complete: {} steps, {} tokens.\n", outcome.step, outcome.tokens);
  fmt::print("{:<20} {:>14} {:>14}\n", "held-out text of", "nats/token", "bits/byte");
  for (const train::FinalScore& score : outcome.scores) {
    fmt::print("{:<20} {:>14.4f} {:>14.4f}\n", score.domain, score.nats_per_token, score.bits_per_byte);
  }
  fmt::print("checkpoint: {}\n", outcome.checkpoint);
}

int run(const Arguments& arguments) {
  const train::TrainConfig config =
      train::parse_config(read_file(arguments.config), arguments.config, arguments.overrides);
  if (arguments.print_config) {
    std::fputs(train::print_config(config).c_str(), stdout);
    return 0;
  }

  // While the data is made ready a signal may just end the program: files are there as a whole or not at all.
  const auto watch_signals = [] {
    std::signal(SIGINT, remember_signal);
    std::signal(SIGTERM, remember_signal);
  };
  const train::Outcome outcome = train::train(config, {watch_signals, [] { return g_signal != 0; }});
  if (arguments.json) {
    print_json(outcome);
  } else if (outcome.finished) {
    print_summary(outcome);
  }
  if (outcome.finished) return 0;
  fmt::print(stderr, "stopped after step {}; the same command {}\n", outcome.step,
             outcome.checkpoint.empty() ? "begins anew: there is no checkpoint yet"
                                        : "goes on from " + outcome.checkpoint);
  return 128 + g_signal;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Trains a mixture-of-experts language model from text.\n"
               "A run that was interrupted goes on where its newest checkpoint is.", "moiety train");
  app.add_option("CONFIG.toml", arguments.config, "what to train, on what, for how long")->required();
  app.add_option("--set", arguments.overrides, "section.key=value: instead of what CONFIG.toml says")
      ->allow_extra_args(false);
  app.add_flag("--print-config", arguments.print_config, "print the whole configuration with its defaults and stop");
  app.add_flag("--json", arguments.json, "print the result as JSON");
  app.footer("Example:\n  moiety train recipes/quickstart.toml --set train.minutes=10");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return run(arguments);
  } catch (const moiety::Error& error) {
    fmt::print(stderr, "moiety train: {}\n", error.what());
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  } catch (const std::exception& error) {
    // What libtorch throws goes on with a list of addresses.
    const std::string_view what = error.what();
    fmt::print(stderr, "moiety train: {}\n", what.substr(0, what.find('\n')));
    return 1;
  }
}
