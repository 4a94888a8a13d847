// run.json: what a run is, for `moiety report`: its configuration, what it trains with, and what a token of it costs.
#pragma once

#include "base/file.h"
#include "train/config.h"

namespace moiety::train {

// Floating-point operations that training takes a token: twice for each parameter that a token visits on the way forth and twice
// that on the way back, and the products of attention over the mean of the positions that a token of a full sequence sees. The
// embedding is looked up, not multiplied, unless it is the output matrix too.
double training_flops_per_token(const spec::ModelSpec& spec, int64_t sequence);

// `given` as the user wrote it, `settled` with nothing left open.
void write_run_record(const TrainConfig& given, const TrainConfig& settled, const spec::ModelSpec& spec);

}  // namespace moiety::train
