// How often each expert was visited, and the figures people read off that.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/route.h"

namespace moiety::moe {

// Visits by layer and expert: [L, E], row-major.
class Load {
 public:
  Load() = default;
  Load(int layers, int experts) : experts_(experts), visits_LE_(size_t(layers) * experts, 0) {}

  int layers() const { return experts_ == 0 ? 0 : static_cast<int>(visits_LE_.size()) / experts_; }
  int experts() const { return experts_; }
  std::span<const int64_t> of_layer(int layer) const {
    return std::span(visits_LE_).subspan(size_t(layer) * experts_, experts_);
  }
  // A layer may have fewer experts.
  void add(int layer, const Routing& routing);
  // The same with visits to experts that cost nothing, whose ids go on after the layer's others: of as many columns as a router has choices.
  void add_choices(int layer, const Routing& routing);
  void add(int layer, int expert, int64_t visits) { visits_LE_[size_t(layer) * experts_ + expert] += visits; }

 private:
  int experts_ = 0;
  std::vector<int64_t> visits_LE_;
};

struct Balance {
  double max_over_mean = 0;  // 1: every expert equally busy
  double entropy = 0;        // of the load, over log E: 1 equal, 0 one expert does all
  int idle = 0;              // experts nobody visited
};
Balance balance_of(std::span<const int64_t> visits_E);

// How much an expert's visits tell of the domain they come from, 0 to 1: the mutual information of domain and expert over the
// entropy of the domain, every domain counted alike however much of its text there was. 0: all domains load the experts
// alike; 1: no expert is shared. It is the Jensen-Shannon divergence of the domains' loads over the log of their number.
// Domains without visits don't count; with fewer than two it is 0. A few visits an expert make it look larger than it is.
double specialisation(const std::vector<std::span<const int64_t>>& visits_by_domain);

// Loss-free balancing (Wang et al. 2024): overloaded experts' bias falls by `rate`, underloaded experts' rises.
void update_selection_bias(std::span<float> bias_E, std::span<const int64_t> visits_E, float rate);

}  // namespace moiety::moe
