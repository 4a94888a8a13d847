#include "runs/table.h"

#include <algorithm>
#include <cmath>

#include "base/progress.h"

namespace moiety::runs {
namespace {

std::string fixed(double value, int decimals) { return fmt::format("{:.{}f}", value, decimals); }
std::string short_count(double value, int) { return short_number(value); }
std::string minutes(double seconds, int) { return fmt::format("{:.1f}", seconds / 60); }

struct Column {
  const char* key;    // in JSON
  const char* title;  // in the table; empty: not shown there
  std::optional<double> Figures::*figure;
  std::string (*show)(double, int decimals);
  int decimals = 0;
};
constexpr Column kColumns[] = {
    {"bits_per_byte", "bits/byte", &Figures::bits_per_byte, fixed, 4},
    {"loss_at_equal_tokens", "=tokens", &Figures::loss_at_tokens, fixed, 4},
    {"loss_at_equal_flops", "=FLOPs", &Figures::loss_at_flops, fixed, 4},
    {"loss_at_equal_seconds", "=time", &Figures::loss_at_seconds, fixed, 4},
    {"last_loss", "", &Figures::last_loss, fixed, 4},
    {"max_over_mean", "busiest", &Figures::max_over_mean, fixed, 2},
    {"entropy", "entropy", &Figures::entropy, fixed, 3},
    {"idle", "idle", &Figures::idle, fixed, 1},
    {"parameters", "parameters", &Figures::parameters, short_count},
    {"active_parameters", "active", &Figures::active_parameters, short_count},
    {"flops_per_token", "FLOPs/token", &Figures::flops_per_token, short_count},
    {"tokens", "tokens", &Figures::tokens, short_count},
    {"seconds", "minutes", &Figures::seconds, minutes},
    {"tokens_per_second", "tokens/s", &Figures::tokens_per_second, short_count},
};

// Characters, not bytes.
size_t width(const std::string& words) {
  return static_cast<size_t>(std::ranges::count_if(words, [](char c) { return (c & 0xC0) != 0x80; }));
}
std::string padded_left(const std::string& words, size_t to) { return std::string(to - std::min(to, width(words)), ' ') + words; }
std::string padded_right(const std::string& words, size_t to) { return words + std::string(to - std::min(to, width(words)), ' '); }

std::string cell(const Column& column, const Summary& summary) {
  if (summary.count == 0) return "-";
  const std::string mean = column.show(summary.mean, column.decimals);
  return summary.count > 1 && column.show == fixed ? mean + " ± " + fixed(summary.deviation, column.decimals) : mean;
}

std::string state_of(const Run& run) {
  if (run.finished) return "finished";
  return fmt::format("not finished: {} steps so far", run.last().step);
}

}  // namespace

std::string comparison_table(std::span<const Run> runs, const std::vector<Group>& groups, const Budgets& budgets) {
  std::vector<std::vector<std::string>> rows{{"configuration", "runs"}};
  for (const Column& column : kColumns) {
    if (*column.title != 0) rows[0].push_back(column.title);
  }
  for (const Group& group : groups) {
    rows.push_back({group.label, fmt::format("{}", group.runs.size())});
    for (const Column& column : kColumns) {
      if (*column.title != 0) rows.back().push_back(cell(column, group.summary(column.figure)));
    }
  }

  std::string text;
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) {
      size_t widest = 0;
      for (const auto& other : rows) widest = std::max(widest, width(other[c]));
      text += c == 0 ? padded_right(row[c], widest) : "  " + padded_left(row[c], widest);
    }
    text += "\n";
  }
  text += fmt::format("bits/byte: held-out text at the end, mean over domains. =tokens, =FLOPs, =time: training loss (nats a token) after what all runs "
                      "reached: {} tokens, {} FLOPs, {} of training.\n",
                      short_number(budgets.tokens), budgets.flops > 0 ? short_number(budgets.flops) : "-", short_time(budgets.seconds));
  text += "busiest: visits of the busiest expert over the mean, entropy: of the load over that of an even one, idle: experts without a visit; "
          "means over layers.\n";
  if (std::ranges::any_of(groups, [](const Group& group) { return group.runs.size() > 1; })) {
    text += "±: standard deviation over the runs of a configuration, which differ in their seed.\n";
  }
  for (const Run& run : runs) {
    if (!run.bad.empty()) text += fmt::format("{}: {} bad steps were passed over\n", run.path.string(), run.bad.size());
    if (!run.finished) text += fmt::format("{}: {}\n", run.path.string(), state_of(run));
  }
  const auto other_vocabulary = [&](const Run& run) { return run.vocabulary != runs[0].vocabulary; };
  if (std::ranges::any_of(runs, other_vocabulary)) {
    text += "These runs have vocabularies of different sizes: compare bits a byte, not losses a token.\n";
  }
  return text;
}

Json comparison_json(std::span<const Run> runs, const std::vector<Group>& groups, const Budgets& budgets) {
  Json configurations = Json::array();
  for (const Group& group : groups) {
    Json configuration = {{"label", group.label}};
    for (const Column& column : kColumns) {
      const Summary summary = group.summary(column.figure);
      if (summary.count > 0) configuration[column.key] = {{"mean", summary.mean}, {"deviation", summary.deviation}, {"runs", summary.count}};
    }
    for (size_t i = 0; i < group.runs.size(); ++i) {
      const Run& run = runs[group.runs[i]];
      Json json = {{"path", run.path.string()}, {"finished", run.finished}, {"steps", run.last().step}, {"bad_steps", run.bad.size()}, {"config", run.config}};
      for (const Column& column : kColumns) {
        if (const auto value = group.figures[i].*column.figure) json[column.key] = *value;
      }
      for (const Score& score : run.validations.empty() ? std::vector<Score>{} : run.validations.back().scores) {
        json["domains"].push_back(
            {{"name", score.domain}, {"nats_per_token", score.nats_per_token}, {"bits_per_byte", score.bits_per_byte}});
      }
      configuration["runs"].push_back(json);
    }
    configurations.push_back(configuration);
  }
  return {{"equal", {{"tokens", budgets.tokens}, {"flops", budgets.flops}, {"seconds", budgets.seconds}}},
          {"configurations", configurations}};
}

}  // namespace moiety::runs
