// What the operators of an expression do, as Python does it.
#pragma once

#include "jinja/run.h"
#include "jinja/syntax.h"

namespace moiety::jinja {

Value binary(Run& run, Operation operation, const Value& a, const Value& b);
bool compare(Run& run, Operation operation, const Value& a, const Value& b);
bool contains(Run& run, const Value& container, const Value& item);
Value negate(Run& run, const Value& value);

// object.name: an attribute or method, else an element; undefined if there is neither.
Value attribute(Run& run, const Value& object, const String* name);
// object[key]: an element, else an attribute.
Value subscript(Run& run, const Value& object, const Value& key);
Value slice(Run& run, const Value& object, const Value& start, const Value& stop, const Value& step);

// str % values.
std::string format_percent(Run& run, std::string_view format, const Value& values);
// str.format(…).
std::string format_braces(Run& run, std::string_view format, const Arguments& arguments);

// Text of all values, one after the other.
Value concatenate(Run& run, const std::vector<Value>& values);

}  // namespace moiety::jinja
