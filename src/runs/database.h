// Runs as tables of an SQLite file, for questions that `moiety report` doesn't answer. docs/training.md has the schema.
#pragma once

#include <span>

#include "runs/run.h"

namespace moiety::runs {

// Adds the runs, all or none of them; a run that is there already (by the path of its folder) is replaced. Makes the file and its
// tables if need be. Throws Error(Io) if it can't, Error(Input) if the file is something else.
void write_database(const fs::path& file, std::span<const Run> runs);

}  // namespace moiety::runs
