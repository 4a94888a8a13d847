// What ranks have of tensors brought to those that want it, however the one and the other is parted.
#pragma once

#include <span>
#include <vector>

#include "comm/group.h"
#include "train/part.h"

namespace moiety::train {

// Every rank's part of each tensor, by tensor and rank. Collective.
std::vector<std::vector<Part>> gather_parts(const std::vector<Part>& mine_N, comm::Group& group);

struct HeldPart {
  Part part;
  std::span<const float> numbers;
};
struct WantedPart {
  Part part;
  std::span<float> numbers;
};

// By tensor: what this rank has, in as many pieces of each tensor as any rank's, and what it wants. Collective. False on every rank, and
// nothing is brought, if somebody wants what nobody has.
[[nodiscard]] bool exchange_parts(const std::vector<std::vector<HeldPart>>& have_NK, const std::vector<WantedPart>& want_N, comm::Group& group);

}  // namespace moiety::train
