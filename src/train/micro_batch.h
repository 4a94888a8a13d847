// One micro-batch forward and backward: in one pass, or, should experts receive more rows than the budget has for them, in
// pieces that surely fit. Nobody is turned away either way.
//
// An overflow is seen at the first layer where it happens, when all that has been made is a part of a graph, which is let go:
// no gradient, load or random number is left of it. Then, once, (1) the pieces run without a graph, which decides every layer's
// plan, and so the visits that the balance loss of the whole micro-batch goes by; (2) each piece runs with its plans and is
// differentiated. Losses and gradients are those of the one pass, up to the order of sums. It costs a forward pass more, and the
// part that was let go; a router that has learnt to spread its tokens doesn't come here.
#pragma once

#include <vector>

#include "train/transformer.h"

namespace moiety::train {

struct TrainedPass {
  Batch batch;
  Routes routes;
  std::vector<float> nats_T;  // Losses::nats_T
};

struct TrainedMicroBatch {
  double cross_entropy = 0, balance = 0, z = 0, entropy = 0, spread = 0, consistency = 0;  // means, as in Losses
  size_t activation_bytes = 0;                   // allocated by the last pass and kept for its gradients
  std::vector<TrainedPass> passes;               // one, or one a piece
};

// Adds `share` times the gradient of the micro-batch's loss to the weights' gradients. Throws Error(Input) if not even one
// sequence surely fits order.budget.
TrainedMicroBatch train_micro_batch(Transformer& model, const Batch& batch, const LossWeights& weights, const PassOrder& order,
                                    float share);

// The sequences of a batch in groups of `sequences`.
std::vector<Batch> pieces_of(const Batch& batch, size_t sequences);

}  // namespace moiety::train
