// The router with its gradient: logits to visits and mixing weights, and the losses of train/balance.h. The choice itself is moe::choose_experts', the one that inference uses; where training chooses otherwise
// (expert choice, SparseMixer) that is said by Choosing.
#pragma once

#include <vector>

#include "base/matrix.h"
#include "moe/route.h"
#include "train/balance.h"
#include "train/buffer.h"

namespace moiety::train {

// Whether experts are chosen as in training or as models are served, and what random choices follow from.
struct Choosing {
  bool in_training = false;
  uint64_t chance = 0;  // of this pass
  uint64_t layer = 0;
};

struct RouterSaved {
  moe::Routing routing;             // with mixing weights
  Buffer scores_TC;                 // before the choice
  std::vector<float> log_sum_T;     // log of the sum of exp(logits)
  std::vector<float> cut_off_E;     // of expert choice in training; else empty
  bool was_drawn = false;           // by SparseMixer: its gradient is another
  BalanceTerm balance;
  float z_loss = 0;
  float entropy_loss = 0;           // if balancing asks for it
};

// `bias_C` is empty or has one number a choice.
RouterSaved router_forward(const spec::RouterRule& rule, MatrixView<const float> logits_TC, std::span<const float> bias_C,
                           const Balancing& balancing = {}, const Choosing& choosing = {});

// From the gradients of the mixing weights, of visits and of those that cost nothing, and of the losses.
struct RouterGradients {
  std::span<const float> mix_N, mix_M;
  float balance = 0, z = 0, entropy = 0;
};
void router_backward(const spec::RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TC,
                     const RouterGradients& d, MatrixView<float> dlogits_TC);

}  // namespace moiety::train
