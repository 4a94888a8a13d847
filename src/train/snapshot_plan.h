// Which rank writes which numbers of a checkpoint; and which keeps which of a step, so that each is on two of them whatever they hold: what several have is kept by two of these,
// and of what only one has the next rank keeps a copy (Wang et al. 2023, "Gemini", keep checkpoints in the memory of peers).
#pragma once

#include <vector>

#include "train/part.h"

namespace moiety::train {

struct SnapshotPlan {
  // By tensor.
  std::vector<Part> own_N;            // of what this rank has: kept here
  std::vector<Part> to_next_N;        // of own_N: what the next rank keeps, too
  std::vector<Part> from_previous_N;  // what the rank before sends
};

// `part_NW`: what each rank has, by tensor. Numbers that many have are kept by each of them about as often as by any other.
SnapshotPlan plan_snapshot(const std::vector<std::vector<Part>>& part_NW, int rank);

// Of what this rank has, by tensor: what it writes, so that each number is written once. `part_NW` as above.
std::vector<Part> plan_writing(const std::vector<std::vector<Part>>& part_NW, int rank);

}  // namespace moiety::train
