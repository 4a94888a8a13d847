// The routers of a mixture, which dense models have none of: random numbers.
#pragma once

#include <optional>
#include <vector>

#include "spec/weight.h"

namespace moiety::upcycle {

struct NewGate {
  spec::Gate kind = spec::Gate::Linear;
  int width = 0;            // of gates that have one
  double deviation = 0.02;  // of the routers' weights: small, so that experts begin with being about equally liked
};

// A weight of the mixture that is its routers' own; nothing for one that dense models have too, or experts. Rows of a router come
// in `alike` equal ones. The same numbers each time it is asked for.
std::optional<std::vector<float>> router_weight(const spec::ModelSpec& mixture, const spec::Weight& weight, const NewGate& gate,
                                                int alike, uint64_t seed);

}  // namespace moiety::upcycle
