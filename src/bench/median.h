// The middle one of some numbers: what an interrupted run does not move.
#pragma once

#include <algorithm>
#include <vector>

namespace moiety::bench {

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace moiety::bench
