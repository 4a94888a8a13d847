// A comparison as words for a terminal and as JSON for programs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runs/compare.h"

namespace moiety::runs {

// A line a configuration, best first; means, and ± the spread where a configuration has several runs.
std::string comparison_table(std::span<const Run> runs, const std::vector<Group>& groups, const Budgets& budgets);
Json comparison_json(std::span<const Run> runs, const std::vector<Group>& groups, const Budgets& budgets);

}  // namespace moiety::runs
