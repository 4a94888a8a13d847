// What of a range of addresses is in memory.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace moiety::test {

// Of whole pages.
inline size_t resident_bytes(std::span<std::byte> memory) {
  constexpr size_t kPage = 4096;
  std::vector<unsigned char> pages(memory.size() / kPage);
  EXPECT_EQ(::mincore(memory.data(), memory.size(), pages.data()), 0);
  return kPage * static_cast<size_t>(std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

}  // namespace moiety::test
