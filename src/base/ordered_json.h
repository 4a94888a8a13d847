// JSON from strangers whose keys stay in the order in which they were written, as chat templates and JSON schemas want them.
// Bounded: time is n log n whatever the text says, depth and number of values have limits.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"

namespace moiety {

// Looking up a key takes time linear in the object's keys.
using OrderedJson = nlohmann::ordered_json;

// Throws Error(Input) for text that is no JSON, nests deeper than 100 levels, holds more than a million values, or an object that
// names a key twice. `name` says where the text comes from.
OrderedJson parse_ordered_json(std::string_view text, std::string_view name);

// As text; what is no UTF-8 becomes U+FFFD.
std::string to_text(const OrderedJson& json);

}  // namespace moiety
