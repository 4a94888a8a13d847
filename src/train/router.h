// The router with its gradient: logits to visits and mixing weights, and the losses of train/balance.h. The choice itself is
// moe::choose_experts', the one that inference uses; where training chooses otherwise (expert choice, SparseMixer) that is said
// by Choosing.
#pragma once

#include <memory>
#include <vector>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"
#include "train/balance.h"
#include "train/buffer.h"

namespace moiety::train {

// Whether experts are chosen as in training or as models are served, and what random choices follow from.
struct Choosing {
  bool in_training = false;
  uint64_t chance = 0;  // of this pass
  uint64_t layer = 0;
  size_t first_token = 0;  // Batch::first_token
};

// What a pass asks of a layer's router beyond its rule.
struct RouteOrder {
  Balancing balancing;
  Choosing choosing;
  double capacity = 0;  // an expert takes so many times the mean load at most; 0: all that come
  int round_tokens = 0;  // above 0: experts' token counts are rounded to multiples of this (moe/token_rounding.h)
  std::shared_ptr<const moe::LayerPlan> decided;  // the choice, when it has been made before
};

struct RouterSaved {
  spec::RouterRule rule;
  std::shared_ptr<const moe::LayerPlan> plan;  // its routing with mixing weights
  Buffer scores_TC;                 // before the choice
  std::vector<float> log_sum_T;     // log of the sum of exp(logits)
  std::vector<float> cut_off_E;     // of expert choice in training; else empty
  bool was_drawn = false;           // by SparseMixer: its gradient is another
  BalanceTerm balance;
  SpreadTerm spread;
  float z_loss = 0;
  float entropy_loss = 0;           // if balancing asks for it
};

// Of one pass, by MoE layer and, in a chain of experts, by iteration; null: of a layer that another stage has.
using Routes = std::vector<std::shared_ptr<const RouterSaved>>;
using Plans = std::vector<std::shared_ptr<const moe::LayerPlan>>;

// `bias_C` is empty or has one number a choice.
RouterSaved router_forward(const spec::RouterRule& rule, MatrixView<const float> logits_TC, std::span<const float> bias_C,
                           const RouteOrder& order = {});

// From the gradients of the mixing weights, of visits and of those that cost nothing, and of the losses.
struct RouterGradients {
  std::span<const float> mix_N, mix_M;
  float balance = 0, z = 0, entropy = 0, spread = 0;
};
void router_backward(const spec::RouterRule& rule, const RouterSaved& saved, MatrixView<const float> logits_TC,
                     const RouterGradients& d, MatrixView<float> dlogits_TC);

}  // namespace moiety::train
