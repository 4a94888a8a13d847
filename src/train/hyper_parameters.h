// What a configuration leaves open (optimizer.lr = 0, train.batch = 0), settled by the step law.
#pragma once

#include <functional>
#include <string>

#include "base/json.h"
#include "train/config.h"

namespace moiety::train {

// Passes hold at most so many tokens when the step law chooses the batch; a larger batch is gathered from several.
inline constexpr int64_t kMostTokensAPass = 8192;

// What a run trains with: stored in its plan.json, so that it goes on with the same.
struct Chosen {
  double lr = 0;
  int64_t batch = 0, accumulate = 0;  // sequences a pass, passes a step
  double tokens = 0;                  // of the whole run, as expected
};

// `tokens_per_second` is asked only for a run whose length is given in minutes. An lr is rounded to two digits, a batch to whole
// sequences and equal passes.
Chosen choose_hyper_parameters(const TrainConfig& config, const spec::ModelSpec& spec, const std::function<double()>& tokens_per_second);

// The configuration with nothing left open.
TrainConfig with_chosen(TrainConfig config, const Chosen& chosen);
inline bool leaves_open(const TrainConfig& config) { return config.optimizer.lr == 0 || config.train.batch == 0; }

// All parameters but the embedding and output matrices.
int64_t parameters_without_embeddings(const spec::ModelSpec& spec);

// One line for a person: what the run trains with, and who says so.
std::string describe(const TrainConfig& given, const Chosen& chosen, const spec::ModelSpec& spec);

Json to_json(const Chosen& chosen);
Chosen chosen_from_json(const Json& json, const std::string& where);

}  // namespace moiety::train
