// Memory for what is large, made once and kept: taken from the system in big pieces, in huge pages where it gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moiety {

class HugeMemory {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;

  HugeMemory() = default;
  ~HugeMemory();
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  // 64-byte aligned zeros, kept until this object goes; pages come into being on the NUMA node of the thread that first
  // writes them. Throws std::bad_alloc.
  std::byte* allocate(size_t bytes);

  // What `count` allocations of `bytes` take at most once they are written.
  static size_t bytes(size_t count, size_t bytes);

  // The system may have this memory until it is written again; what it held is gone.
  static void give_back(std::span<std::byte> memory);
  // No huge pages here from now on, so that what is written and what was given back is known to the small page.
  static void in_small_pages(std::span<std::byte> memory);

 private:
  std::vector<std::span<std::byte>> pieces_;
  size_t used_ = 0;  // of the last piece
};

}  // namespace moiety
