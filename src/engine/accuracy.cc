#include "engine/accuracy.h"

#include <algorithm>
#include <cmath>

namespace moiety::engine {

std::pair<double, double> Accuracy::interval() const {
  if (all == 0) return {0, 1};
  constexpr double z = 1.959963984540054;  // the normal distribution's 97.5 %
  const auto n = static_cast<double>(all);
  const double p = share(), middle = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace moiety::engine
