#include "runs/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace moiety::runs {
namespace {

constexpr double kWindow = 0.05;        // share of the budget that a loss is the mean of
constexpr size_t kMostSettings = 4;     // in a label
constexpr double kRounding = 1e-9;      // sums of seconds in another order

// Settings that don't make a run another experiment.
bool is_incidental(const std::string& key) {
  return key.starts_with("run.") || key.starts_with("checkpoint.") || key.starts_with("ranks.") || key.starts_with("trace.") || key == "validate.every" ||
         key == "validate.batches";
}

Json essence(const Json& config) {
  Json kept = Json::object();
  for (const auto& [key, value] : config.items()) {
    if (!is_incidental(key)) kept[key] = value;
  }
  return kept;
}

std::string shown(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// "experts 8, lr 0.003": what the configurations don't have in common. By the key's last word, unless two end in the same.
std::vector<std::string> labels_of(const std::vector<Json>& essences) {
  std::set<std::string> keys, differing;
  for (const Json& essence : essences) {
    for (const auto& [key, value] : essence.items()) keys.insert(key);
  }
  for (const std::string& key : keys) {
    for (const Json& essence : essences) {
      if (essence.value(key, Json()) != essences[0].value(key, Json())) differing.insert(key);
    }
  }
  if (differing.empty() || differing.size() > kMostSettings) return std::vector<std::string>(essences.size());
  const auto last_word = [](const std::string& key) { return key.substr(key.rfind('.') + 1); };
  std::map<std::string, int> uses;
  for (const std::string& key : differing) ++uses[last_word(key)];
  std::vector<std::string> labels;
  for (const Json& essence : essences) {
    std::string label;
    for (const std::string& key : differing) {
      const std::string name = uses[last_word(key)] > 1 ? key : last_word(key);
      label += fmt::format("{}{} {}", label.empty() ? "" : ", ", name, shown(essence.value(key, Json())));
    }
    labels.push_back(label);
  }
  return labels;
}

}  // namespace

double at(const Run& run, const Step& step, Axis axis) {
  switch (axis) {
    case Axis::Tokens: return step.tokens;
    case Axis::Flops: return step.tokens * run.flops_per_token;
    case Axis::Seconds: return step.seconds;
  }
  return 0;
}

std::optional<double> loss_at(const Run& run, Axis axis, double budget) {
  if (budget <= 0 || at(run, run.last(), axis) < budget * (1 - kRounding)) return std::nullopt;
  double sum = 0, count = 0, nearest = 0;
  for (const Step& step : run.steps) {
    const double used = at(run, step, axis);
    if (used > budget * (1 + kRounding)) break;
    nearest = step.loss;
    if (used <= budget * (1 - kWindow)) continue;
    sum += step.loss;
    ++count;
  }
  if (count > 0) return sum / count;
  if (nearest > 0) return nearest;
  return std::nullopt;  // the first step alone is more than the budget
}

double common_budget(std::span<const Run> runs, Axis axis) {
  double least = std::numeric_limits<double>::infinity();
  for (const Run& run : runs) least = std::min(least, at(run, run.last(), axis));
  return runs.empty() ? 0 : least;
}

Budgets common_budgets(std::span<const Run> runs) {
  return {common_budget(runs, Axis::Tokens), common_budget(runs, Axis::Flops), common_budget(runs, Axis::Seconds)};
}

Figures figures_of(const Run& run, const Budgets& budgets) {
  const auto known = [](double value) { return value > 0 ? std::optional(value) : std::nullopt; };
  const Step& last = run.last();
  Figures f;
  if (run.finished && !run.validations.empty()) f.bits_per_byte = run.validations.back().bits_per_byte();
  f.loss_at_tokens = loss_at(run, Axis::Tokens, budgets.tokens);
  f.loss_at_flops = loss_at(run, Axis::Flops, budgets.flops);
  f.loss_at_seconds = loss_at(run, Axis::Seconds, budgets.seconds);
  f.last_loss = loss_at(run, Axis::Tokens, last.tokens);
  if (run.load) {
    f.max_over_mean = run.load->max_over_mean;
    f.entropy = run.load->entropy;
    f.idle = run.load->idle;
  }
  f.parameters = known(static_cast<double>(run.parameters));
  f.active_parameters = known(static_cast<double>(run.active_parameters));
  f.flops_per_token = known(run.flops_per_token);
  f.tokens = last.tokens;
  f.seconds = known(last.seconds);
  if (last.seconds > 0) f.tokens_per_second = last.tokens / last.seconds;
  return f;
}

Summary summarise(std::span<const double> values) {
  Summary summary{values.size()};
  if (values.empty()) return summary;
  for (const double value : values) summary.mean += value / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - summary.mean) * (value - summary.mean);
  if (values.size() > 1) summary.deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
  return summary;
}

Summary Group::summary(std::optional<double> Figures::*figure) const {
  std::vector<double> values;
  for (const Figures& f : figures) {
    if (f.*figure) values.push_back(*(f.*figure));
  }
  return summarise(values);
}

std::vector<Group> group_runs(std::span<const Run> runs, const Budgets& budgets) {
  std::vector<Group> groups;
  std::vector<Json> essences;
  for (size_t i = 0; i < runs.size(); ++i) {
    const Json own = essence(runs[i].config);
    const auto same = own.empty() ? essences.end() : std::ranges::find(essences, own);
    const auto number = static_cast<size_t>(same - essences.begin());
    if (number == essences.size()) {
      essences.push_back(own);
      groups.emplace_back();
    }
    groups[number].runs.push_back(i);
    groups[number].figures.push_back(figures_of(runs[i], budgets));
  }
  const std::vector<std::string> labels = labels_of(essences);
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].label = labels[g].empty() ? runs[groups[g].runs[0]].name : labels[g];
  }

  const bool by_bits = std::ranges::all_of(groups, [](const Group& g) { return g.summary(&Figures::bits_per_byte).count > 0; });
  const auto figure = by_bits ? &Figures::bits_per_byte : &Figures::loss_at_tokens;
  std::ranges::stable_sort(groups, {}, [&](const Group& g) {
    const Summary summary = g.summary(figure);
    return summary.count > 0 ? summary.mean : std::numeric_limits<double>::infinity();
  });
  return groups;
}

}  // namespace moiety::runs
