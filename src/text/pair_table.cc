#include "text/pair_table.h"

#include <algorithm>
#include <bit>

namespace moiety::text {
namespace {

uint64_t mix(uint64_t x) {
  x *= 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

PairTable::PairTable(std::span<const spec::RankedMerge> merges)
    : slots_(std::bit_ceil(std::max<size_t>(16, merges.size() * 2))), mask_(slots_.size() - 1) {
  for (const auto& [merge, rank] : merges) {
    Slot* slot = slot_of(pair_of(merge.left, merge.right));
    slot->pair = pair_of(merge.left, merge.right);
    slot->merge = {rank, merge.result};
  }
}

PairTable::Slot* PairTable::slot_of(uint64_t pair) {
  size_t at = mix(pair) >> 20 & mask_;
  while (slots_[at].pair != kFree && slots_[at].pair != pair) at = (at + 1) & mask_;
  return &slots_[at];
}

const PairTable::Merge* PairTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t at = mix(pair) >> 20 & mask_;; at = (at + 1) & mask_) {
    if (slots_[at].pair == pair) return &slots_[at].merge;
    if (slots_[at].pair == kFree) return nullptr;
  }
}

}  // namespace moiety::text
