// How one sequence's tokens choose experts otherwise than the model says.
#pragma once

#include <vector>

namespace moiety::model {

struct RouterOverride {
  int experts_per_token = 0;  // 0: as many as the model says
  // Empty, or a number for each layer and expert that is added to the router's logits, [layers * experts]; layers without
  // experts have theirs too, which nothing reads.
  std::vector<float> bias_LE;

  bool operator==(const RouterOverride&) const = default;
};

}  // namespace moiety::model
