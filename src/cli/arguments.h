// What the commands' argument parsing has in common.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "base/error.h"

namespace moiety::cli {

// Returns 0 after --help (already printed). A wrong flag is thrown as Error(Usage).
inline std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    fail(ErrorKind::Usage, "{}: {} (see {} --help)", app.get_name(), error.what(), app.get_name());
  }
  return std::nullopt;
}

}  // namespace moiety::cli
