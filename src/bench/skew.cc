#include "bench/skew.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace moiety::bench {
namespace {

// The slope of the line that fits log(visits) over log(rank) best, turned round.
double falling_exponent(std::vector<double> visits_E) {
  std::ranges::sort(visits_E, std::greater());
  double n = 0, x_sum = 0, y_sum = 0, xx_sum = 0, xy_sum = 0;
  for (size_t rank = 2; rank <= visits_E.size(); ++rank) {
    const double x = std::log(static_cast<double>(rank)), y = std::log(std::max(visits_E[rank - 1], 0.5));
    n += 1, x_sum += x, y_sum += y, xx_sum += x * x, xy_sum += x * y;
  }
  return -(n * xy_sum - x_sum * y_sum) / (n * xx_sum - x_sum * x_sum);
}

}  // namespace

void SkewCounter::add_routing(int layer, const moe::Routing& routing) {
  const size_t l = static_cast<size_t>(layer);
  load_.add(layer, routing);
  for (size_t t = 0; t + 1 < routing.begin_T1.size(); ++t) {
    std::vector<int32_t> experts(routing.experts_N.begin() + routing.begin_T1[t], routing.experts_N.begin() + routing.begin_T1[t + 1]);
    for (const int32_t expert : experts) tally_L_[l].repeats += std::ranges::count(last_L_[l], expert);
    tally_L_[l].tokens += 1;
    tally_L_[l].visits += static_cast<int64_t>(experts.size());
    last_L_[l] = std::move(experts);
  }
}

Skew SkewCounter::skew_of(int layer) const {
  const Tally& tally = tally_L_[static_cast<size_t>(layer)];
  const double tokens = static_cast<double>(tally.tokens), visits = static_cast<double>(tally.visits);
  std::vector<double> visits_E;
  double squares = 0;
  for (const int64_t count : load_.of_layer(layer)) {
    visits_E.push_back(static_cast<double>(count));
    squares += static_cast<double>(count) * static_cast<double>(count);
  }
  const double visits_after_first = visits * (tokens - 1) / tokens;
  return {falling_exponent(std::move(visits_E)), static_cast<double>(tally.repeats) / visits_after_first, squares / tokens / visits};
}

}  // namespace moiety::bench
