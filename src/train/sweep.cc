#include "train/sweep.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"

namespace moiety::train {
namespace {

constexpr size_t kMostTrials = 10'000, kLongestName = 200;

// At `separator`s outside of quotes and brackets.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  char quote = 0;
  int depth = 0;
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == separator && depth == 0) {
      parts.emplace_back();
      continue;
    }
    parts.back() += c;
  }
  return parts;
}

std::string last_word(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// What may stand in a folder's name.
std::string as_name(const std::string& value) {
  std::string name;
  for (const char c : value) {
    if (c == '"' || c == '\'') continue;
    name += c == '/' || static_cast<unsigned char>(c) < ' ' ? '-' : c;
  }
  return name;
}

}  // namespace

Axis parse_axis(const std::string& text) {
  const auto wrong = [&](const std::string& why) { fail(ErrorKind::Usage, "--sweep {}: {}, as in --sweep optimizer.lr=0.003,0.006", text, why); };
  const size_t equals = text.find('=');
  if (equals == text.npos) wrong("expected section.key=value,value");
  Axis axis{split(text.substr(0, equals), ':')};
  for (const std::string& key : axis.keys) {
    const size_t dot = key.find('.');
    if (dot == key.npos || dot == 0 || dot + 1 == key.size()) wrong(fmt::format("\"{}\" is no section.key", key));
    if (key == "run.dir") wrong("every run has a folder of its own in run.dir");
  }
  for (const std::string& place : split(text.substr(equals + 1), ',')) {
    axis.places.push_back(axis.keys.size() == 1 ? std::vector{place} : split(place, ':'));
    if (axis.places.back().size() != axis.keys.size()) {
      wrong(fmt::format("\"{}\" has {} values for {} keys", place, axis.places.back().size(), axis.keys.size()));
    }
    if (std::ranges::any_of(axis.places.back(), &std::string::empty)) wrong("a value is missing");
  }
  return axis;
}

std::vector<Trial> grid(const std::vector<Axis>& axes) {
  std::set<std::string> keys;
  std::map<std::string, int> uses;
  for (const Axis& axis : axes) {
    for (const std::string& key : axis.keys) {
      if (!keys.insert(key).second) fail(ErrorKind::Usage, "--sweep: {} stands twice", key);
      ++uses[last_word(key)];
    }
  }
  std::vector<Trial> trials(1);
  for (const Axis& axis : axes) {
    if (trials.size() * axis.places.size() > kMostTrials) fail(ErrorKind::Usage, "--sweep: more than {} runs", kMostTrials);
    std::vector<Trial> longer;
    for (const Trial& trial : trials) {
      for (const auto& place : axis.places) {
        Trial next = trial;
        for (size_t k = 0; k < axis.keys.size(); ++k) {
          const std::string& key = axis.keys[k];
          next.overrides.push_back(key + "=" + place[k]);
          const std::string word = uses[last_word(key)] > 1 ? key : last_word(key);
          next.name += (next.name.empty() ? "" : ",") + word + "=" + as_name(place[k]);
        }
        longer.push_back(std::move(next));
      }
    }
    trials = std::move(longer);
  }
  std::set<std::string> names;
  for (const Trial& trial : trials) {
    if (!names.insert(trial.name).second) fail(ErrorKind::Usage, "--sweep: two runs would be called \"{}\"", trial.name);
    if (trial.name.size() > kLongestName) fail(ErrorKind::Usage, "--sweep: \"{}\" is too long for the name of a folder", trial.name);
  }
  return trials;
}

}  // namespace moiety::train
