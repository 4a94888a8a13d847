// A model in a few lines that a person reads.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "spec/model_spec.h"

namespace moiety::cli {

// What each part is, and its description: ("attention", "32 heads of 128, 4 of keys and values; …").
std::vector<std::pair<std::string, std::string>> describe(const spec::ModelSpec& spec);

}  // namespace moiety::cli
