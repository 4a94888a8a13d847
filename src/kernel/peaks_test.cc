#include "kernel/peaks.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace moiety::kernel {
namespace {

TEST(Peaks, EveryTableReadsEveryByte) {
  std::vector<float> memory(3 * 1024);
  std::iota(memory.begin(), memory.end(), 0.0f);  // sums of so few whole numbers are exact
  const float all = 3072.0f * 3071.0f / 2;
  for (const Kernels* kernels : available_kernels()) {
    EXPECT_EQ(peaks_of(*kernels).read(reinterpret_cast<const std::byte*>(memory.data()), memory.size() * sizeof(float)), all)
        << kernels->name;
  }
}

TEST(Peaks, LoopsCountWhatTheyDo) {
  for (const Kernels* kernels : available_kernels()) {
    const Peaks& peaks = peaks_of(*kernels);
    for (const Peaks::Loop loop : {peaks.f32, peaks.bf16, peaks.int8}) {
      if (loop == nullptr) continue;
      EXPECT_GT(loop(1), 0) << kernels->name;
      EXPECT_EQ(loop(30), 30 * loop(1)) << kernels->name;
    }
    EXPECT_NE(peaks.f32, nullptr) << kernels->name;
  }
}

}  // namespace
}  // namespace moiety::kernel
