// Whether a run's routers are well: experts that nobody visits any more, load that few of a layer's experts have, logits that grow. Each is
// said once when it begins and once when it is over, with a gap between the two thresholds, so that what wavers says nothing.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/json.h"
#include "moe/load.h"

namespace moiety::train {

class RouterHealth {
 public:
  // By router: what it is called, and how many experts it has.
  RouterHealth(std::vector<std::string> names, std::vector<int> experts);

  // The visits of a step.
  void add(const moe::Load& load);
  // Looks at `figures`, RoutingFigures::by_layer of the step, and adds to each how many experts are dead. Sentences for people.
  std::vector<std::string> look(Json& figures);

  // For the checkpoint; null: nothing has been seen.
  Json state() const;
  void restore(const Json& state, const std::string& where);

  static constexpr int64_t kDeadAfter = 100;  // steps without a visit
  // The load's entropy over that of an even one: collapsed below the first, well again above the second.
  static constexpr double kCollapsed = 0.5, kSpread = 0.6;
  // Root mean square of the logarithm of the sum of the logits' exponentials, whose square the z loss is the mean of.
  static constexpr double kLargeLogits = 50, kSmallLogits = 40;

 private:
  enum Sign { kDead, kCollapse, kLogits, kSigns };
  struct Router {
    std::string name;
    std::vector<int64_t> unvisited_E;  // steps since the last visit
    std::array<bool, kSigns> shows{};
    std::vector<int> dead() const;
  };

  std::vector<Router> routers_;
};

}  // namespace moiety::train
