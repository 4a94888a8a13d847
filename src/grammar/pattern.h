// Regular expressions of JSON schemas (ECMA-262) as grammar of the JSON strings that they match. Read are: characters and
// escapes, classes with \d \w \s and ranges, '.', groups, alternatives, * + ? {m,n} (greedy or lazy: the same strings), ^ at
// the beginning and $ at the end. Refused are what a grammar can't say: look-around, back references, word boundaries, \p{…}.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "grammar/json_text.h"

namespace moiety::grammar {

struct LengthLimits {
  uint32_t min = 0, max = kUnlimited;  // in characters
};

// A JSON string, quotes included, whose characters have a part that matches, as the standard has it, unless ^ and $ say that all
// must. Throws Error(Input), which begins with `where`, for a pattern that is refused, and for limits that neither the pattern
// already keeps nor can be worked into it (as into a repeated class, ^[a-z]+$).
Expr string_matching(JsonText& json, std::string_view pattern, const LengthLimits& limits, std::string_view where);

// The pattern of a format of the JSON schema standard, such as date-time; empty if the name isn't one that is known.
std::string_view pattern_of_format(std::string_view format);

}  // namespace moiety::grammar
