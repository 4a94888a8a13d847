// JSON whose objects keep the order in which they were written: schemas and tools.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace moiety::grammar {

using OrderedJson = nlohmann::ordered_json;

// Throws Error(Input), which begins with `name`, for a text that is not valid JSON or larger than schemas are: a mebibyte, 64
// levels, a thousand keys an object (looking one up takes time in proportion).
OrderedJson parse_ordered_json(std::string_view text, std::string_view name);

}  // namespace moiety::grammar
