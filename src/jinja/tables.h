// The tables of built-in functions, a file each.
#pragma once

#include <span>

#include "jinja/functions.h"

namespace moiety::jinja {

std::span<const Builtin> text_filters();           // text_filters.cc
std::span<const Builtin> list_filters();           // list_filters.cc
std::span<const Builtin> value_filters();          // value_filters.cc
std::span<const Builtin> is_tests();               // is_tests.cc
std::span<const Builtin> string_methods();         // string_methods.cc
std::span<const Builtin> string_search_methods();  // string_search.cc
std::span<const Builtin> list_methods();           // container_methods.cc
std::span<const Builtin> tuple_methods();
std::span<const Builtin> dict_methods();

}  // namespace moiety::jinja
