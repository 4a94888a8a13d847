// Experts that change homes between two steps (moe/rebalance.h), of ranks that share each layer's experts: when, and how their weights
// and moments come there.
#pragma once

#include <map>
#include <optional>

#include "base/json.h"
#include "comm/group.h"
#include "moe/load.h"
#include "moe/rebalance.h"
#include "train/optimizer.h"

namespace moiety::train {

// Of a layer the first expert of each kind: experts of different kinds never change places.
std::vector<int> kinds_of(const spec::ModelSpec& spec, int layer);

// Homes that change, by layer.
struct HomeChanges {
  std::map<int, moe::Placement> placement_L;
  int experts = 0;  // that change homes
  // The slowest rank's visits over those of the mean one, layer after layer summed up.
  double slowest_before = 1, slowest_after = 1;

  Json to_json() const;
};

class ExpertHomes {
 public:
  // Every so many steps a look, 0: never. `flops_a_byte`: what a rank computes while it sends a byte.
  ExpertHomes(const spec::ModelSpec& spec, int64_t every, double flops_a_byte);

  // Adds a step's visits of all ranks, by layer and in each by iteration; if it is time for a look, what should change by the visits since the last, which those until the
  // next are expected to be like. The same on every rank.
  std::optional<HomeChanges> look(const moe::Load& step, const Weights& weights);

 private:
  HomeChanges changes(const Weights& weights) const;

  const spec::ModelSpec& spec_;
  int64_t every_, steps_ = 0;
  moe::MoveCosts costs_;
  moe::Load visits_;  // by layer
};

// Weights and moments of these layers' experts, as the optimizer left them, come to their new homes; of all else nothing travels. Collective over
// all ranks.
void move_experts(const HomeChanges& changes, Weights& weights, Optimizer& optimizer, comm::Group& ranks);

}  // namespace moiety::train
