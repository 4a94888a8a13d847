#include "store/slot_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "support/resident_bytes.h"

namespace moiety::store {
namespace {

constexpr size_t kPage = 4096;

// Experts of sizes by chance come, stay and go: those that stay have the memory that they fill, however large the ones before them in
// their slots were, and those that are vacant no more than they may.
TEST(SlotMemory, TakesNoMoreThanWhatIsInIt) {
  constexpr size_t kSlots = 12;
  for (const auto& [least, most] : {std::pair<size_t, size_t>{3 * kPage, 3 * kPage}, {kPage, 9 * kPage}, {600 * kPage, 1100 * kPage}}) {
    Random random(3);
    SlotMemory memory(kSlots, least, most);
    std::vector<SlotMemory::Slot> there, seen;
    for (int i = 0; i < 300; ++i) {
      if (there.size() < kSlots && random.below(2) == 0) {
        SlotMemory::Slot slot = memory.take();
        const size_t bytes = least + kPage * random.below((most - least) / kPage + 1);
        std::memset(slot.data, i, bytes);
        slot.held = std::max(slot.held, bytes);
        SlotMemory::trim(slot, bytes);
        EXPECT_EQ(slot.held, bytes);
        for (const SlotMemory::Slot& other : there) EXPECT_TRUE(slot.data + most <= other.data || other.data + most <= slot.data);
        there.push_back(slot);
        if (std::ranges::find(seen, slot.data, &SlotMemory::Slot::data) == seen.end()) seen.push_back(slot);
      } else if (!there.empty()) {
        std::swap(there[random.below(there.size())], there.back());
        memory.vacate(there.back());
        there.pop_back();
      }
      const size_t may_be_vacant = random.below(3) * most;
      memory.keep_vacant(may_be_vacant);
      if (least == most) continue;  // their memory is in huge pages that slots share
      size_t held = 0, all = 0;
      for (const SlotMemory::Slot& slot : there) {
        held += slot.held;
        EXPECT_EQ(test::resident_bytes({slot.data, slot.held}), slot.held);
      }
      for (const SlotMemory::Slot& slot : seen) all += test::resident_bytes({slot.data, most});
      EXPECT_LE(all, held + may_be_vacant);
    }
  }
}

}  // namespace
}  // namespace moiety::store
