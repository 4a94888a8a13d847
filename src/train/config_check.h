// Whether what a configuration says goes together: each mistake is one sentence with the keys' names.
#pragma once

#include <string>

#include "train/config.h"

namespace moiety::train {

// Throws Error(Input), with `where` the configuration comes from.
void check(const TrainConfig& config, const std::string& where);

// After the first dense layers every moe_every-th has experts.
bool is_moe_layer(const TrainConfig::Model& model, int64_t layer);

}  // namespace moiety::train
