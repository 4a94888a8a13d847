#include "cli/config_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/file.h"

namespace moiety::cli {
namespace {

// Letters to insert, delete or replace (Levenshtein 1966).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string nearest_name(const CLI::App& app, const std::string& name) {
  std::string nearest = "model";
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& candidate : option->get_lnames()) {
      if (edit_distance(name, candidate) < edit_distance(name, nearest)) nearest = candidate;
    }
  }
  return nearest;
}

std::string text_of(const toml::node& node, const std::string& place) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  fail(ErrorKind::Input, "{}: expected a text, a number, true or false, or a list of them", place);
}

std::vector<std::string> values_of(const toml::node& node, const std::string& place) {
  std::vector<std::string> values;
  if (const toml::array* list = node.as_array()) {
    for (const toml::node& value : *list) values.push_back(text_of(value, place));
  } else {
    values.push_back(text_of(node, place));
  }
  return values;
}

void apply(CLI::Option& option, const std::vector<std::string>& values, const std::string& place) {
  if (option.count() > 0) return;  // the command line has the last word
  const bool is_flag = option.get_expected_min() == 0;
  if (is_flag && values == std::vector<std::string>{"false"}) return;
  try {
    option.add_result(values);
    option.run_callback();
  } catch (const CLI::Error& error) {
    fail(ErrorKind::Input, "{}: {}", place, error.what());
  }
}

}  // namespace

void apply_config(CLI::App& app, const std::string& file) {
  const std::string text = read_file(file);
  require(text.size() <= 1 << 20, "{}: a configuration has a mebibyte at most", file);
  toml::table table;
  try {
    table = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::Input, "{}:{}: not valid TOML: {}", file, error.source().begin.line, error.description());
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const std::string place = fmt::format("{}:{}: {}", file, node.source().begin.line, name);
    CLI::Option* option = name == "model" ? app.get_option_no_throw("MODEL") : app.get_option_no_throw("--" + name);
    const bool is_known = option != nullptr && name != "config" && name != "help";
    require(is_known, "{}: there is no such name; is {} meant?", place, nearest_name(app, name));
    apply(*option, values_of(node, place), place);
  }
}

}  // namespace moiety::cli
