// What a layer's experts keep of sequences (spec::ExpertKindInfo::state): numbers of each position, beside its keys and values. A
// position has those of all experts, also of such as did not see it, so that whoever shares, copies or forgets positions has them right.
#pragma once

#include <span>

#include "model/step.h"

namespace moiety::model {

// Of one layer, in one step.
class ExpertStates {
 public:
  // The layer's numbers are those from `first` on of a position's; `count` 0: its experts keep nothing.
  ExpertStates(std::span<const StepPart> parts, size_t first, size_t count) : parts_(parts), first_(first), count_(count) {}

  std::span<const StepPart> parts() const { return parts_; }

  // Gives every position of the step what the last one before it has, 0 in a sequence's first: experts write over what they change.
  void carry() const;
  // Reads some of the layer's numbers, from `at` on, after the last position before the part.
  void before(const StepPart& part, size_t at, std::span<float> numbers) const;
  // Writes them after positions [begin, end) of the part's sequence. Threads may put other numbers at the same time.
  void put(const StepPart& part, size_t at, size_t begin, size_t end, std::span<const float> numbers) const;

 private:
  std::span<const StepPart> parts_;
  size_t first_, count_;
};

}  // namespace moiety::model
