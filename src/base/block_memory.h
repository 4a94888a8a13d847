// Memory of matrices. Large blocks that are released may be kept for whoever wants as much next: given back to the system they
// would come again as pages to be cleared, which costs a tenth of a long prompt's time.
#pragma once

#include <cstddef>

namespace moiety {

// From now on released blocks of a megabyte and more are kept, as long as they are no more than so many bytes together. 0, as it
// is at first: none are.
void keep_blocks(size_t bytes);

// 64-byte aligned, of any content; `bytes` is a multiple of 64. Throws std::bad_alloc.
void* allocate_block(size_t bytes);
void release_block(void* block) noexcept;

}  // namespace moiety
