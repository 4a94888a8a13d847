// moiety trace: which experts tokens visit, as files; the table of what can be done with them.
#include "cli/trace.h"

#include <fmt/core.h>

#include <string_view>

#include "base/error.h"
#include "cli/command.h"

namespace moiety::cli {
namespace {

struct Subcommand {
  const char* name;
  int (*run)(int argc, char** argv);
  const char* summary;
};

constexpr Subcommand kSubcommands[] = {
    {"record", trace_record, "run texts through a model and record which experts they visit"},
    {"report", trace_report, "what can be read off a trace: balance, reuse, locality, domains"},
    {"replay", trace_replay, "what a cache of experts would have found, by policy and size"},
};

void print_help() {
  fmt::print("Routing traces: which experts the tokens of which sequences visit, step by step.\n\n");
  for (const Subcommand& command : kSubcommands) fmt::print("  moiety trace {:<8} {}\n", command.name, command.summary);
  fmt::print("\nmoiety generate, eval and bench record one with --trace FILE, moiety train with --set trace.file=FILE.\n");
}

}  // namespace

int trace(int argc, char** argv) {
  if (argc < 2) {
    print_help();
    return 2;
  }
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || name == "help") {
    print_help();
    return 0;
  }
  for (const Subcommand& command : kSubcommands) {
    if (name == command.name) return command.run(argc - 1, argv + 1);
  }
  fail(ErrorKind::Usage, "moiety trace has no \"{}\"; moiety trace --help lists what it has", name);
}

}  // namespace moiety::cli
