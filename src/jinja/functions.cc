#include "jinja/functions.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>

#include "jinja/tables.h"

namespace moiety::jinja {
namespace {

using Table = std::unordered_map<std::string_view, const Builtin*>;

Table table_of(std::initializer_list<std::span<const Builtin>> parts) {
  Table table;
  for (const auto part : parts) {
    for (const Builtin& builtin : part) table.emplace(builtin.name, &builtin);
  }
  return table;
}

const Builtin* find(const Table& table, std::string_view name) {
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

// Which of the names in `parameters` this is; Call::kMost if none.
size_t place_of(std::string_view parameters, std::string_view name) {
  size_t place = 0;
  while (!parameters.empty()) {
    const size_t space = std::min(parameters.find(' '), parameters.size());
    if (parameters.substr(0, space) == name) return place;
    parameters.remove_prefix(std::min(space + 1, parameters.size()));
    ++place;
  }
  return Call::kMost;
}

size_t count_names(std::string_view parameters) {
  if (parameters.empty()) return 0;
  return static_cast<size_t>(std::count(parameters.begin(), parameters.end(), ' ')) + 1;
}

}  // namespace

int64_t Call::integer(size_t i, int64_t otherwise) const {
  if (!has(i)) return otherwise;
  if (at(i).is_undefined()) run.fault(why_undefined(at(i)));
  if (!at(i).is_integer()) run.fault(fmt::format("'{}' object cannot be interpreted as an integer", type_name(at(i))));
  // No number of anything is larger; sums of two such do not overflow.
  constexpr int64_t kMost = int64_t{1} << 61;
  return std::clamp(at(i).as_integer(), -kMost, kMost);
}

std::string Call::text(size_t i, std::string_view otherwise) const {
  return has(i) ? run.str(at(i)) : std::string(otherwise);
}

std::string_view Call::string(size_t i) const {
  if (at(i).is_undefined()) run.fault(why_undefined(at(i)));
  if (!at(i).is_string()) run.fault(fmt::format("expected a str, found '{}'", type_name(at(i))));
  return at(i).text();
}

Value call(const Builtin& builtin, Run& run, const Value& self, const Arguments& arguments) {
  // Whatever looks at a text looks at all of it; lists are counted where they are walked over.
  if (self.is_string()) run.budget.step(self.text().size() / 16);
  Call call{run, self, arguments};
  const std::string_view parameters = builtin.parameters;
  if (parameters == "*") return builtin.function(call);

  const size_t most = count_names(parameters);
  if (arguments.positional.size() > most) {
    run.fault(fmt::format("'{}' takes at most {} arguments, {} were given", builtin.name, most, arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) call.given[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const size_t place = place_of(parameters, name->text);
    if (place == Call::kMost) {
      run.fault(fmt::format("'{}' has no argument named '{}'", builtin.name, name->text.substr(0, 60)));
    }
    if (call.has(place)) run.fault(fmt::format("'{}' was given '{}' twice", builtin.name, name->text));
    call.given[place] = &value;
  }
  for (size_t i = 0; i < builtin.required; ++i) {
    if (!call.has(i)) run.fault(fmt::format("'{}' needs {} arguments", builtin.name, builtin.required));
  }
  return builtin.function(call);
}

const Builtin* find_filter(std::string_view name) {
  static const Table table = table_of({text_filters(), list_filters(), value_filters()});
  return find(table, name);
}

const Builtin* find_test(std::string_view name) {
  static const Table table = table_of({is_tests()});
  return find(table, name);
}

const Builtin* find_method(const Value& self, std::string_view name) {
  static const Table strings = table_of({string_methods(), string_search_methods()}), lists = table_of({list_methods()}),
                     dicts = table_of({dict_methods()}), tuples = table_of({tuple_methods()});
  if (self.is_string()) return find(strings, name);
  if (self.is(Type::Dict)) return find(dicts, name);
  if (is_list(self, List::Kind::List)) return find(lists, name);
  if (is_list(self, List::Kind::Tuple) || is_list(self, List::Kind::Range)) return find(tuples, name);
  return nullptr;
}

}  // namespace moiety::jinja
