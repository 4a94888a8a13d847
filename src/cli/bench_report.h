// What moiety bench found, for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "bench/measure.h"
#include "cli/open_model.h"

namespace moiety::cli {

std::string bench_table(const OpenModel& model, const std::string& title, const std::vector<bench::Result>& results);
std::string bench_json(const OpenModel& model, const std::string& title, const std::vector<bench::Result>& results);

}  // namespace moiety::cli
