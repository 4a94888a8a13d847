// What memory there is, as Linux says; without limit where it doesn't.
#pragma once

#include <cstddef>

namespace moiety {

// Bytes that could be had without swapping or pushing others out: of the machine, and of the control groups that this process
// is in.
size_t available_memory();

// Bytes of this process in memory.
size_t resident_memory();
// The most that they were since the program began, or since forget_peak_memory().
size_t peak_memory();
void forget_peak_memory();

// Bytes that this process has allocated and not freed.
size_t allocated_memory();

}  // namespace moiety
