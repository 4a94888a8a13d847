// What a training run left in its folder, read for comparison: run.json (what it is) and metrics.jsonl (a line a step).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace moiety::runs {

// After a step. `tokens` and `seconds` of training so far, `loss` in nats a token.
struct Step {
  int64_t step = 0;
  double tokens = 0, seconds = 0;
  double loss = 0, balance_loss = 0, lr = 0;
};

// How evenly experts are visited, the mean over layers.
struct Load {
  double max_over_mean = 0;  // the busiest expert's visits over the mean
  double entropy = 0;        // of the load, over that of an even one
  double idle = 0;           // experts that nobody visits
};

struct Score {
  std::string domain;
  double nats_per_token = 0, bits_per_byte = 0;
};
struct Validation {
  int64_t step = 0;
  bool final = false;  // over all held-out text, at the run's end
  std::vector<Score> scores;

  double bits_per_byte() const;  // the mean over domains
};

struct Run {
  fs::path path;
  std::string name;           // the folder's
  Json config = Json::object();  // "section.key" -> value; empty for runs made before run.json was
  int64_t parameters = 0, active_parameters = 0, vocabulary = 0;  // 0: not known
  double flops_per_token = 0;                                     // of training
  double lr = 0;
  bool finished = false;
  std::vector<Step> steps;  // at least one
  std::vector<Step> bad;    // that were passed over; their losses say nothing of the model
  std::vector<Validation> validations;
  std::optional<Load> load;  // the last that was measured

  const Step& last() const { return steps.back(); }
};

// Throws Error(Input) if the folder is no training run or has not finished a step. Lines of metrics.jsonl that a kill cut short
// are passed over.
Run read_run(const fs::path& folder);

// The folder itself if it is a run, else the runs in it, as `moiety train --sweep` leaves them, by name. Throws Error(Input) if
// there is none.
std::vector<fs::path> find_runs(const fs::path& folder);

}  // namespace moiety::runs
