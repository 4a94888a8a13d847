#include "base/huge_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace moiety {
namespace {

constexpr size_t kHugePage = HugeMemory::kHugePage, kPiece = size_t{64} << 20;

size_t up_to(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Of the whole pages in it.
void advise(std::span<std::byte> memory, int advice) {
  const uintptr_t page = 4096, begin = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t first = up_to(begin, page), end = (begin + memory.size()) / page * page;
  if (end > first) madvise(reinterpret_cast<void*>(first), end - first, advice);
}

// The size of a piece that is made for so many bytes.
size_t piece_for(size_t bytes) { return up_to(std::max(bytes, kPiece), kHugePage); }

}  // namespace

HugeMemory::~HugeMemory() {
  for (const auto piece : pieces_) munmap(piece.data(), piece.size());
}

std::byte* HugeMemory::allocate(size_t bytes) {
  bytes = up_to(bytes, 64);
  if (pieces_.empty() || pieces_.back().size() - used_ < bytes) {
    const size_t size = piece_for(bytes);
    void* piece = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (piece == MAP_FAILED) throw std::bad_alloc();
    madvise(piece, size, MADV_HUGEPAGE);  // a wish: without it the same memory is only slower
    pieces_.emplace_back(static_cast<std::byte*>(piece), size);
    used_ = 0;
  }
  std::byte* const out = pieces_.back().data() + used_;
  used_ += bytes;
  return out;
}

size_t HugeMemory::bytes(size_t count, size_t bytes) {
  bytes = std::max<size_t>(up_to(bytes, 64), 64);
  const size_t a_piece = piece_for(bytes) / bytes;
  return count / a_piece * up_to(a_piece * bytes, kHugePage) + up_to(count % a_piece * bytes, kHugePage);
}

void HugeMemory::give_back(std::span<std::byte> memory) { advise(memory, MADV_DONTNEED); }

void HugeMemory::in_small_pages(std::span<std::byte> memory) { advise(memory, MADV_NOHUGEPAGE); }

}  // namespace moiety
