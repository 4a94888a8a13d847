// The router with its gradient: logits to visits and mixing weights, and the losses of train/balance.h. The choice itself is
// moe::choose_experts', the one that inference uses.
#pragma once

#include <memory>
#include <vector>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"
#include "train/balance.h"
#include "train/buffer.h"

namespace moiety::train {

// What a pass asks of a layer's router beyond its rule.
struct RouteOrder {
  Balancing balancing;
  double capacity = 0;  // an expert takes so many times the mean load at most; 0: all that come
  std::shared_ptr<const moe::LayerPlan> decided;  // the choice, when it has been made before
};

struct RouterSaved {
  spec::RouterRule rule;
  std::shared_ptr<const moe::LayerPlan> plan;
  Buffer scores_TE;                 // before the choice
  std::vector<float> log_sum_T;     // log of the sum of exp(logits)
  BalanceTerm balance;
  float z_loss = 0;
};

// Of one pass, by MoE layer.
using Routes = std::vector<std::shared_ptr<const RouterSaved>>;
using Plans = std::vector<std::shared_ptr<const moe::LayerPlan>>;

RouterSaved router_forward(const spec::RouterRule& rule, MatrixView<const float> logits_TE,
                           std::span<const float> bias_E, const RouteOrder& order = {});

void router_backward(const spec::RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TE,
                     std::span<const float> dmix_N, float dbalance, float dz, MatrixView<float> dlogits_TE);

}  // namespace moiety::train
