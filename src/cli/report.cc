// moiety report: training runs against each other.
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/run_chart.h"
#include "runs/database.h"
#include "runs/table.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Compares training runs: the loss at equal tokens, at equal operations and at equal time; bits per byte of held-out text; how\n"
    "evenly experts are used. Runs whose configurations differ in the seed alone stand on one line, with their mean and spread.\n\n"
    "examples:\n"
    "  moiety report sweep/run\n"
    "  moiety report run-a run-b run-c --svg runs.svg --db runs.sqlite";

}  // namespace

int report(int argc, char** argv) {
  CLI::App app(kHelp, "moiety report");
  std::vector<std::string> folders;
  std::string svg, database;
  bool json = false;
  app.add_option("RUN", folders, "run folders, or folders of them as `moiety train --sweep` leaves them")->required();
  app.add_option("--svg", svg, "draw the losses over tokens, operations and time");
  app.add_option("--db", database, "add the runs to this SQLite file: configuration, steps, scores");
  app.add_flag("--json", json, "one JSON object");
  if (const auto status = parse(app, argc, argv)) return *status;

  std::vector<runs::Run> all;
  for (const std::string& folder : folders) {
    for (const fs::path& path : runs::find_runs(folder)) all.push_back(runs::read_run(path));
  }
  const runs::Budgets budgets = runs::common_budgets(all);
  const std::vector<runs::Group> groups = runs::group_runs(all, budgets);
  if (!svg.empty()) write_file(svg, draw_run_chart(all, groups));
  if (!database.empty()) runs::write_database(database, all);
  if (json) {
    fmt::print("{}\n", runs::comparison_json(all, groups, budgets).dump());
  } else {
    fmt::print("{}", runs::comparison_table(all, groups, budgets));
  }
  return 0;
}

}  // namespace moiety::cli
