// Values as text: Python's str() and repr(), and JSON as transformers' tojson writes it.
#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace moiety::jinja {

// Appends; charges the budget as the text grows, so that lists that hold the same list many times end soon.
void append_str(std::string& out, const Value& value, Budget& budget);
void append_repr(std::string& out, const Value& value, Budget& budget);

std::string float_repr(double number);  // the shortest text that reads back as the same number, in Python's form

struct JsonStyle {
  bool ascii = false;              // everything else as \uXXXX
  std::optional<std::string> indent;  // one level's; without it all is one line
  std::string item = ", ", key = ": ";
  bool sort_keys = false;
};
// Throws Fault for what JSON cannot say.
void append_json(std::string& out, const Value& value, const JsonStyle& style, Budget& budget);

// &, <, >, ' and " as entities, as markupsafe writes them.
std::string escape_html(std::string_view text);

}  // namespace moiety::jinja
