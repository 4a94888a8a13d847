// The router with its gradient: logits to visits and mixing weights, and the losses of train/balance.h. The choice itself is
// moe::choose_experts', the one that inference uses.
#pragma once

#include <vector>

#include "base/matrix.h"
#include "moe/route.h"
#include "train/balance.h"
#include "train/buffer.h"

namespace moiety::train {

struct RouterSaved {
  moe::Routing routing;             // with mixing weights
  Buffer scores_TE;                 // before the choice
  std::vector<float> log_sum_T;     // log of the sum of exp(logits)
  BalanceTerm balance;
  float z_loss = 0;
};

// `round_tokens` above 0: moe::round_tokens changes the choice.
RouterSaved router_forward(const spec::RouterRule& rule, MatrixView<const float> logits_TE,
                           std::span<const float> bias_E, const Balancing& balancing = {}, int round_tokens = 0);

void router_backward(const spec::RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TE,
                     std::span<const float> dmix_N, float dbalance, float dz, MatrixView<float> dlogits_TE);

}  // namespace moiety::train
