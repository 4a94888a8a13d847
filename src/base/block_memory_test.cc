#include "base/block_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "base/matrix.h"
#include "base/random.h"

namespace moiety {
namespace {

constexpr size_t kMiB = 1 << 20;

class BlockMemory : public testing::Test {
 protected:
  void TearDown() override { keep_blocks(0); }
};

TEST_F(BlockMemory, AReleasedBlockServesWhoWantsAsMuch) {
  keep_blocks(16 * kMiB);
  void* const first = allocate_block(4 * kMiB);
  release_block(first);
  void* const much_less = allocate_block(kMiB);
  EXPECT_NE(much_less, first);
  void* const again = allocate_block(3 * kMiB);
  EXPECT_EQ(again, first);
  release_block(much_less);
  release_block(again);
}

TEST_F(BlockMemory, BlocksInUseAreDistinctWhoeverAsks) {
  keep_blocks(8 * kMiB);
  const auto work = [](uint64_t seed) {
    Random random(seed);
    std::vector<std::pair<unsigned char*, size_t>> mine;
    for (int i = 0; i < 300; ++i) {
      if (mine.size() < 4 && random.below(2) == 0) {
        const size_t bytes = 64 * (1 + random.below(3 * kMiB / 64));
        auto* const block = static_cast<unsigned char*>(allocate_block(bytes));
        ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
        block[0] = block[bytes - 1] = static_cast<unsigned char>(seed);
        mine.emplace_back(block, bytes);
      } else if (!mine.empty()) {
        const auto [block, bytes] = mine.back();
        ASSERT_EQ(block[0], seed);
        ASSERT_EQ(block[bytes - 1], seed);
        release_block(block);
        mine.pop_back();
      }
    }
    for (const auto& [block, bytes] : mine) release_block(block);
  };
  std::thread a(work, 1), b(work, 2);
  a.join();
  b.join();
}

TEST_F(BlockMemory, AMatrixOfZerosIsOfZerosThoughItsMemoryWasUsed) {
  keep_blocks(64 * kMiB);
  for (int i = 0; i < 3; ++i) {
    Matrix<float> x(1024, 1024);
    for (const float value : x.flat()) ASSERT_EQ(value, 0.0f);
    std::memset(x.view().data(), 0xff, 4 * kMiB);
  }
}

}  // namespace
}  // namespace moiety
