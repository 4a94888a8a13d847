// A share of right answers, and how sure one can be of it.
#pragma once

#include <cstddef>
#include <utility>

namespace moiety::engine {

struct Accuracy {
  size_t right = 0, all = 0;

  void add(bool is_right) {
    right += is_right;
    ++all;
  }
  double share() const { return all == 0 ? 0 : static_cast<double>(right) / static_cast<double>(all); }
  // Wilson's interval (1927), which holds the true share in 95 of 100 samples, also near 0 and 1. The whole range for no sample.
  std::pair<double, double> interval() const;
};

}  // namespace moiety::engine
