// What is known of pairs of token ids: an open-addressed hash table.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spec/merges.h"

namespace moiety::text {

class PairTable {
 public:
  struct Merge {
    int32_t rank = -1, result = -1;
  };
  // A pair named twice counts as it is named last.
  explicit PairTable(std::span<const spec::RankedMerge> merges);
  const Merge* find(int32_t left, int32_t right) const;  // null if the pair is never joined

 private:
  struct Slot {
    uint64_t pair = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};
  Slot* slot_of(uint64_t pair);

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

}  // namespace moiety::text
