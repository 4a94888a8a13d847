// Memory for experts of several sizes, each of which may follow any other: a slot is addresses enough for the largest of them, and as
// much memory as it was written.
#pragma once

#include <cstddef>
#include <vector>

#include "base/huge_memory.h"

namespace moiety::store {

class SlotMemory {
 public:
  struct Slot {
    std::byte* data = nullptr;  // at the beginning of a page
    size_t held = 0;            // bytes of memory that it may have, from its beginning
  };
  // As many slots, for experts of between `least` and `most` bytes. Throws std::bad_alloc.
  SlotMemory(size_t slots, size_t least, size_t most);

  // One that is vacant and has memory already, if there is any.
  Slot take();
  void vacate(Slot slot);
  // Those that are vacant keep no more memory than this.
  void keep_vacant(size_t bytes);
  // It keeps no more memory than this.
  static void trim(Slot& slot, size_t bytes);

 private:
  HugeMemory memory_;
  std::vector<Slot> empty_, vacant_;
  size_t vacant_bytes_ = 0;
};

}  // namespace moiety::store
