#include "format/tensor_groups.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "base/error.h"

namespace moiety::format {
namespace {

constexpr size_t kMostDigits = 9;
constexpr size_t kMostRuns = 4;

// A name cut at its numbers: those that stand between dots (or the ends).
struct Pattern {
  std::string text;  // every number replaced by one that no name has
  std::vector<int> numbers;
};

bool is_number(std::string_view part) {
  return !part.empty() && part.size() <= kMostDigits &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Pattern pattern_of(std::string_view name) {
  Pattern pattern;
  while (true) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view part = name.substr(0, dot);
    if (is_number(part)) {
      int number = 0;
      std::from_chars(part.data(), part.data() + part.size(), number);
      pattern.numbers.push_back(number);
      pattern.text += '\0';
    } else {
      pattern.text += part;
    }
    if (dot == name.size()) return pattern;
    pattern.text += '.';
    name.remove_prefix(dot + 1);
  }
}

// "0-31", "0-2,5,7-9"; what is longer ends in "…".
std::string runs_text(const std::set<int>& numbers) {
  std::string text;
  size_t runs = 0;
  for (auto it = numbers.begin(); it != numbers.end();) {
    const int first = *it;
    int last = first;
    while (++it != numbers.end() && *it == last + 1) last = *it;
    if (++runs > kMostRuns) return text + ",…";
    text += fmt::format("{}{}", text.empty() ? "" : ",", first);
    if (last > first) text += fmt::format("-{}", last);
  }
  return text;
}

struct Numbered {
  TensorGroup group;
  std::string pattern;
  std::vector<std::set<int>> numbers;  // by place
};

std::string name_of(const Numbered& numbered) {
  std::string name;
  size_t place = 0;
  for (const char c : numbered.pattern) {
    if (c != '\0') {
      name += c;
      continue;
    }
    const std::set<int>& numbers = numbered.numbers[place++];
    name += numbers.size() == 1 ? fmt::format("{}", *numbers.begin()) : "[" + runs_text(numbers) + "]";
  }
  return name;
}

}  // namespace

std::vector<TensorGroup> group_tensors(const std::vector<TensorView>& tensors) {
  std::vector<Numbered> groups;
  std::map<std::tuple<std::string, spec::ElementType, std::vector<int64_t>>, size_t> places;
  for (const TensorView& tensor : tensors) {
    const Pattern pattern = pattern_of(tensor.name);
    const auto [place, is_new] = places.try_emplace({pattern.text, tensor.type, tensor.shape}, groups.size());
    if (is_new) {
      groups.push_back({{{}, tensor.type, tensor.shape, 0, 0}, pattern.text, {}});
      groups.back().numbers.resize(pattern.numbers.size());
    }
    Numbered& numbered = groups[place->second];
    ++numbered.group.count;
    numbered.group.bytes += tensor.bytes.size();
    for (size_t i = 0; i < pattern.numbers.size(); ++i) numbered.numbers[i].insert(pattern.numbers[i]);
  }
  std::vector<TensorGroup> out;
  for (Numbered& numbered : groups) {
    numbered.group.name = name_of(numbered);
    out.push_back(std::move(numbered.group));
  }
  return out;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += fmt::format("{}{}", text.empty() ? "" : " x ", size);
  return text;
}

}  // namespace moiety::format
