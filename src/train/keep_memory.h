// Activations come and go every step: keep their memory instead of giving it back and faulting it in again.
#pragma once

#include <malloc.h>

#include <cstdint>

namespace moiety::train {

inline void keep_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT32_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace moiety::train
