// How the square of the whole gradient's norm is made up: by weight, and in stacks of experts by expert. Asked for when a step is bad, to say
// where.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/group.h"
#include "train/optimizer.h"
#include "train/weights.h"

namespace moiety::train {

struct GradientShare {
  const Weights::Entry* entry = nullptr;
  int expert = -1;    // -1: not of a stack
  double square = 0;  // sum of the squared gradients
  double usual = 0;   // of the second moments, which follow them; 0: there are none, or no step was made yet
};

std::string name_of(const GradientShare& share);

// Of all trained weights, in the order in which a token meets them; after Optimizer::measure. With `ranks` collective, and the same on each.
std::vector<GradientShare> gradient_shares(const Weights& weights, Optimizer& optimizer, comm::Group* ranks);

// Of those that are no number the one that the way back came to first, and how many there are; nullptr: none.
struct NoNumbers {
  const GradientShare* first = nullptr;
  size_t count = 0;
};
NoNumbers no_numbers(const std::vector<GradientShare>& shares);

// The one whose share of the whole has grown most over its usual one; nullptr if there are none. Both shares are from 0 to 1.
struct GrownShare {
  const GradientShare* of = nullptr;
  double share = 0, usually = 0;
};
GrownShare most_grown(const std::vector<GradientShare>& shares);

}  // namespace moiety::train
