#include "store/slot_memory.h"

#include <cassert>

#include "base/read_queue.h"

namespace moiety::store {
namespace {

constexpr size_t kPage = DirectFile::kAlignment;
// With more slots their parts of other pages would be more than Linux maps for a process.
constexpr size_t kMostParted = 16384;

size_t up_to(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

// Of slots of one size all memory may be huge pages. Else those may lie only where every expert fills them: what they have beyond an
// expert's end nobody would have counted.
SlotMemory::SlotMemory(size_t slots, size_t least, size_t most) {
  constexpr size_t kHuge = HugeMemory::kHugePage;
  const bool alike = up_to(least, kPage) == up_to(most, kPage);
  const size_t in_huge_pages = alike || slots > kMostParted ? 0 : least / kHuge * kHuge;
  const size_t unit = in_huge_pages > 0 ? kHuge : kPage, stride = up_to(most, unit);
  std::byte* const all = memory_.allocate(slots * stride + unit);
  std::byte* const first = all + (unit - reinterpret_cast<uintptr_t>(all) % unit) % unit;
  for (size_t i = slots; i-- > 0;) {
    empty_.push_back({first + i * stride});
    if (!alike) HugeMemory::in_small_pages({empty_.back().data + in_huge_pages, stride - in_huge_pages});
  }
}

SlotMemory::Slot SlotMemory::take() {
  std::vector<Slot>& from = vacant_.empty() ? empty_ : vacant_;
  assert(!from.empty());
  const Slot slot = from.back();
  from.pop_back();
  vacant_bytes_ -= slot.held;
  return slot;
}

void SlotMemory::vacate(Slot slot) {
  vacant_.push_back(slot);
  vacant_bytes_ += slot.held;
}

void SlotMemory::keep_vacant(size_t bytes) {
  for (; vacant_bytes_ > bytes; vacant_.pop_back()) {
    Slot& slot = vacant_.back();
    vacant_bytes_ -= slot.held;
    trim(slot, 0);
    empty_.push_back(slot);
  }
}

void SlotMemory::trim(Slot& slot, size_t bytes) {
  bytes = up_to(bytes, kPage);
  if (slot.held <= bytes) return;
  HugeMemory::give_back({slot.data + bytes, slot.held - bytes});
  slot.held = bytes;
}

}  // namespace moiety::store
