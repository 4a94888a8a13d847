// What memory there is, as Linux says; without limit where it doesn't.
#pragma once

#include <cstddef>

namespace moiety {

// Bytes that could be had without swapping or pushing others out: of the machine, and of the control groups that this process
// is in.
size_t available_memory();

// Bytes of this process in memory.
size_t resident_memory();

}  // namespace moiety
