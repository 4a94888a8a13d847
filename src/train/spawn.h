// From one expert to many (EvoMoE, Nie et al. 2021): until a step every token visits each layer's first expert; then all others
// begin as copies of it, each a little different.
#pragma once

#include "spec/model_spec.h"
#include "train/weights.h"

namespace moiety::train {

// The first expert of each layer stays as it is; every number of the others' weights is its own plus `noise` times the root mean
// square of its matrix times a normal number. Their moments stay as they are: none, since no gradient has come to them. A
// function of the weights, the seed and nothing else.
void spawn_experts(Weights& weights, double noise, uint64_t seed);

}  // namespace moiety::train
