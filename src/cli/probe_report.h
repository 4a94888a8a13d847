// Synthetic probes of a model: generated questions, each with a few answers of which the model should hold the right one for the
// likeliest.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/open_model.h"
#include "engine/accuracy.h"

namespace moiety::cli {

struct ProbeOptions {
  std::vector<std::string> kinds;  // of corpus::synthetic_kinds()
  int questions = 200;             // a kind
  int shots = 4;                   // questions with their answers before each, of training's
  uint64_t seed = 1;
};

struct ProbeResult {
  std::string kind;
  engine::Accuracy accuracy;
};

std::vector<ProbeResult> run_probes(OpenModel& model, const ProbeOptions& options);
void print_probes(const std::vector<ProbeResult>& results, const ProbeOptions& options);
Json probes_json(const std::vector<ProbeResult>& results);

}  // namespace moiety::cli
