// A command's flags from a TOML file: the same names, one a line.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace moiety::cli {

// For every `name = value` what --name value would have done, unless the command line has said it already; `model` is MODEL. To
// be called after the command line is parsed. Throws Error(Input) with the line: for a name that there isn't (and the likeliest
// that was meant), a value that its flag refuses.
void apply_config(CLI::App& app, const std::string& file);

}  // namespace moiety::cli
