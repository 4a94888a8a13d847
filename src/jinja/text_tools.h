// What filters and methods of text share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jinja/run.h"

namespace moiety::jinja {

// The first character in upper case, the others in lower case.
std::string capitalized(std::string_view text);
// The first `count` occurrences, all if it is negative.
std::string replaced(Run& run, std::string_view text, std::string_view old, std::string_view with, int64_t count);
// Lines as Python's splitlines() cuts them, with or without what ends them.
std::vector<std::string_view> lines_of(std::string_view text, bool keep_ends);
std::string centered(Run& run, std::string_view text, int64_t width, std::string_view fill);
// `count` times `fill`, charged before it is made; nothing for a negative count.
std::string repeated(Run& run, std::string_view fill, int64_t count);

}  // namespace moiety::jinja
