// A run that begins with a model instead of random numbers: its sizes, its weights, its tokenizer; the optimizer begins anew.
#pragma once

#include "train/config.h"
#include "train/prepare.h"
#include "train/weights.h"

namespace moiety::train {

// The configuration with run.from's tokenizer, and its end-of-text token, if it has one, between documents. What [model] says is
// not looked at then. Without run.from: as it is.
TrainConfig with_tokenizer_of_start(const TrainConfig& config);

// The model to be trained: run.from's, or what [model] describes. A bias that balances is added where balance.bias_rate asks for
// one. Throws Error(Input) if the tokenizer has more tokens than the model.
spec::ModelSpec spec_to_train(const TrainConfig& config, const PreparedData& data);

// Fills the weights of a run that begins: run.from's whatever their type and names, or random ones.
void begin(const TrainConfig& config, const spec::ModelSpec& spec, Weights& weights);

}  // namespace moiety::train
