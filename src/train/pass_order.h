// What a pass through the layers is told beyond its tokens: the rules of its step, and what its routers are held to.
#pragma once

#include <vector>

#include "base/activity.h"
#include "moe/load.h"
#include "moe/receive_budget.h"
#include "spec/model_spec.h"
#include "train/router.h"
#include "train/token_clusters.h"
#include "train/weights.h"

namespace moiety::train {

struct PassOrder {
  std::vector<spec::RouterRule> rules_L;  // by layer, dense ones too; empty: those of the model
  bool first_expert_only = false;         // every token visits expert 0, no router is asked
  bool router_trained = true;
  BalanceScope scope = BalanceScope::Micro;
  const moe::Load* others = nullptr;  // by router, as Routes: visits that count for the balance beside the pass's own, Balancing::others_E
  SumOverRanks sum_over_ranks;            // Balancing::sum_over_ranks
  float zero_cost_balance = 1;            // Balancing::zero_cost
  double capacity = 0;                // RouteOrder::capacity
  bool recompute_layers = false;      // of a layer only its input and its routing are kept; the rest is made again on the way back
  int round_tokens = 0;               // RouteOrder::round_tokens
  moe::ReceiveBudget budget;
  Clustering clustering;  // of the tokens that experts see
  // By router, as Routes: which experts stand behind the gate's outputs, and by what share (train/permutation_search.h); null: each its own.
  const std::vector<WeightMatrix>* shares = nullptr;
  Activity* activity = nullptr;      // where passes note what they do; null: nowhere
  const Plans* decided = nullptr;  // by router, as Routes: who visits whom, when it has been decided before

  spec::RouterRule rule(const spec::ModelSpec& spec, int layer) const {
    return rules_L.empty() ? spec.router(layer) : rules_L[static_cast<size_t>(layer)];
  }
};

}  // namespace moiety::train
