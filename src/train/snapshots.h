// The state after each of the last two steps, in the memory of two ranks each number, so that when a rank is lost the others go on from the
// last step that all of them have ended, whatever their number then and however they share the model.
//
// Bytes: of f32 weights and moments as a checkpoint holds them, twice 2 / ranks of the whole on each rank (once more for what no other
// rank has: experts that are spread, moments that are shared out). Only the latter travels, once a step.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "base/json.h"
#include "comm/group.h"
#include "train/snapshot_plan.h"

namespace moiety::train {

class Snapshots {
 public:
  // Who has what from here on: `state` are the tensors of commit(). Older snapshots stay. Collective, and so are all that follow.
  void lay_out(const std::vector<TensorPart>& state, comm::Group& ranks);
  // `where`: what else is to be known to go on after this step, the same on every rank.
  void commit(int64_t step, const std::vector<TensorPart>& state, const Json& where, comm::Group& ranks);

  // The steps of which this rank has its part whole.
  std::vector<int64_t> steps() const;

  struct Restored {
    Json where;
    std::vector<format::TensorView> tensors;  // of the whole's shape, with the wanted numbers in their places and others zero
    std::vector<std::shared_ptr<float>> memory;  // theirs; where there are only zeros it takes no room
  };
  // The parts of `wanted` after `step`, from all ranks that have some of it; nothing, on every rank, if they have not all. The first rank must
  // have been there.
  std::optional<Restored> restore(int64_t step, const std::vector<TensorPart>& wanted, comm::Group& ranks) const;

 private:
  struct Kept {
    std::vector<Part> part_N;
    std::vector<std::vector<float>> numbers_N;
  };
  struct Snapshot {
    int64_t step = -1;
    Json where;
    Kept own, guests;
  };

  SnapshotPlan plan_;
  bool any_travel_ = false;
  std::array<Snapshot, 2> snapshots_;
};

}  // namespace moiety::train
