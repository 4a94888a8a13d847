// Runs against each other: at equal tokens, at equal operations, at equal time; runs that differ in their seed alone are one
// configuration, with a mean and a spread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runs/run.h"

namespace moiety::runs {

enum class Axis { Tokens, Flops, Seconds };
double at(const Run& run, const Step& step, Axis axis);  // 0: the run doesn't say

// The training loss (nats a token) when the run had used up `budget`: the mean over the last 5 % of it, since a step's loss alone
// says more about its batch. Nothing if the run ended before, or doesn't say how far it was.
std::optional<double> loss_at(const Run& run, Axis axis, double budget);

// What all runs have reached; 0 if one of them doesn't say.
double common_budget(std::span<const Run> runs, Axis axis);

struct Figures {
  std::optional<double> bits_per_byte;  // of held-out text, at the end: the mean over domains
  std::optional<double> loss_at_tokens, loss_at_flops, loss_at_seconds;
  std::optional<double> last_loss;      // of the whole run, as loss_at
  std::optional<double> max_over_mean, entropy, idle;
  std::optional<double> parameters, active_parameters, flops_per_token;
  std::optional<double> tokens, seconds, tokens_per_second;
};
struct Budgets {
  double tokens = 0, flops = 0, seconds = 0;
};
Budgets common_budgets(std::span<const Run> runs);
Figures figures_of(const Run& run, const Budgets& budgets);

// Over the runs of a configuration that have the figure.
struct Summary {
  size_t count = 0;
  double mean = 0;
  double deviation = 0;  // the standard deviation of a sample; 0 for one
};
Summary summarise(std::span<const double> values);

struct Group {
  std::string label;         // the settings that set it apart; the folder's name if they don't say it in short
  std::vector<size_t> runs;  // indices
  std::vector<Figures> figures;

  Summary summary(std::optional<double> Figures::*figure) const;
};

// Best first: by bits per byte if all have them, else by the loss at equal tokens.
std::vector<Group> group_runs(std::span<const Run> runs, const Budgets& budgets);

}  // namespace moiety::runs
