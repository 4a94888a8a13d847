#include "base/block_memory.h"

#include <malloc.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace moiety {
namespace {

constexpr size_t kLeast = 1 << 20, kMostBlocks = 64;

struct Kept {
  void* block;
  size_t bytes;
};

struct KeptBlocks {
  std::mutex mutex;
  size_t limit = 0, bytes = 0;
  std::vector<Kept> blocks;  // the oldest first

  void drop(size_t i) {
    bytes -= blocks[i].bytes;
    std::free(blocks[i].block);
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i));
  }
};

// Never destroyed: matrices may be, after it.
KeptBlocks& kept() {
  static KeptBlocks& blocks = *new KeptBlocks;
  return blocks;
}

// The smallest that is large enough and not twice too large; nullptr if there is none.
void* take_kept(size_t bytes) {
  KeptBlocks& all = kept();
  const std::lock_guard lock(all.mutex);
  size_t best = all.blocks.size();
  for (size_t i = 0; i < all.blocks.size(); ++i) {
    const size_t size = all.blocks[i].bytes;
    if (size >= bytes && size <= 2 * bytes && (best == all.blocks.size() || size < all.blocks[best].bytes)) best = i;
  }
  if (best == all.blocks.size()) return nullptr;
  void* const block = all.blocks[best].block;
  all.bytes -= all.blocks[best].bytes;
  all.blocks.erase(all.blocks.begin() + static_cast<std::ptrdiff_t>(best));
  return block;
}

}  // namespace

void keep_blocks(size_t bytes) {
  KeptBlocks& all = kept();
  const std::lock_guard lock(all.mutex);
  all.limit = bytes;
  all.blocks.reserve(kMostBlocks + 1);
  while (all.bytes > all.limit) all.drop(0);
}

void* allocate_block(size_t bytes) {
  if (bytes >= kLeast) {
    if (void* const block = take_kept(bytes)) return block;
  }
  void* const block = std::aligned_alloc(64, bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void release_block(void* block) noexcept {
  const size_t bytes = block == nullptr ? 0 : malloc_usable_size(block);
  if (bytes < kLeast) return std::free(block);
  KeptBlocks& all = kept();
  const std::lock_guard lock(all.mutex);
  if (bytes > all.limit) return std::free(block);
  all.blocks.push_back({block, bytes});
  all.bytes += bytes;
  while (all.bytes > all.limit || all.blocks.size() > kMostBlocks) all.drop(0);
}

}  // namespace moiety
