#include "moe/rebalance.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace moiety::moe {
namespace {

struct Swap {
  size_t from_slowest, from_other;  // experts
};

// Homes as they change, and how many visits each rank gets there.
class Trial {
 public:
  Trial(std::span<const int64_t> visits_E, const Placement& placement, std::span<const int> kinds_K)
      : visits_E_(visits_E), kinds_K_(kinds_K), owner_E_(placement.owners().begin(), placement.owners().end()), load_W_(visits_by_rank(visits_E, placement)) {}

  int64_t slowest_load() const { return std::ranges::max(load_W_); }

  // Nothing, if none makes the slowest rank faster and no other as slow.
  std::optional<Swap> best() const {
    const auto slowest = static_cast<int>(std::ranges::max_element(load_W_) - load_W_.begin());
    int64_t least = slowest_load();
    std::optional<Swap> best;
    for (size_t hot = 0; hot < owner_E_.size(); ++hot) {
      if (owner_E_[hot] != slowest) continue;
      for (size_t cold = 0; cold < owner_E_.size(); ++cold) {
        if (owner_E_[cold] == slowest || visits_E_[cold] >= visits_E_[hot] || kind_of(cold) != kind_of(hot)) continue;
        const int64_t less = visits_E_[hot] - visits_E_[cold], slower = std::max(slowest_load() - less, load_of(cold) + less);
        if (slower < least) least = slower, best = Swap{hot, cold};
      }
    }
    return best;
  }

  void make(const Swap& swap) {
    const int64_t less = visits_E_[swap.from_slowest] - visits_E_[swap.from_other];
    load_of(swap.from_slowest) -= less;
    load_of(swap.from_other) += less;
    std::swap(owner_E_[swap.from_slowest], owner_E_[swap.from_other]);
  }

  Placement placement() const { return {owner_E_, static_cast<int>(load_W_.size())}; }

 private:
  int64_t load_of(size_t expert) const { return load_W_[static_cast<size_t>(owner_E_[expert])]; }
  int64_t& load_of(size_t expert) { return load_W_[static_cast<size_t>(owner_E_[expert])]; }
  ptrdiff_t kind_of(size_t expert) const { return std::ranges::upper_bound(kinds_K_, static_cast<int>(expert)) - kinds_K_.begin(); }

  std::span<const int64_t> visits_E_;
  std::span<const int> kinds_K_;
  std::vector<int> owner_E_;
  std::vector<int64_t> load_W_;
};

}  // namespace

std::vector<int64_t> visits_by_rank(std::span<const int64_t> visits_E, const Placement& placement) {
  std::vector<int64_t> visits_W(static_cast<size_t>(placement.num_ranks()));
  for (int expert = 0; expert < placement.num_experts(); ++expert) {
    visits_W[static_cast<size_t>(placement.owner(expert))] += visits_E[static_cast<size_t>(expert)];
  }
  return visits_W;
}

Homes rebalanced(std::span<const int64_t> visits_E, const Placement& placement, std::span<const int> kinds_K, const MoveCosts& costs) {
  Trial trial(visits_E, placement, kinds_K);
  const int64_t before = trial.slowest_load();
  Homes homes{.placement = placement, .slowest_before = before, .slowest_after = before};
  double most = 0;
  int swaps = 0;
  while (const auto swap = trial.best()) {
    trial.make(*swap);
    ++swaps;
    const double gain = static_cast<double>(before - trial.slowest_load()), net = gain - swaps * costs.swap;
    if (net <= most || gain < costs.noise * static_cast<double>(before)) continue;
    most = net;
    homes = {trial.placement(), swaps, before, trial.slowest_load()};
  }
  return homes;
}

}  // namespace moiety::moe
