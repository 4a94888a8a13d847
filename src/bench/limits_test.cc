#include "bench/limits.h"

#include <gtest/gtest.h>

namespace moiety::bench {
namespace {

TEST(Limits, AreMeasuredWithEveryTableOfKernels) {
  ThreadPool threads(2);
  for (const kernel::Kernels* kernels : kernel::available_kernels()) {
    const kernel::Compute compute{*kernels, threads};
    const Limits limits = LimitMeter(compute, 4 << 20).measure();
    EXPECT_GT(limits.read_bandwidth, 0) << kernels->name;
    for (const double operations : limits.operations) EXPECT_GT(operations, 0) << kernels->name;
  }
}

TEST(Limits, TheMedianIsOfEachByItself) {
  const std::vector<Limits> measured{{1, {10, 5, 7}}, {3, {30, 4, 8}}, {2, {20, 6, 9}}};
  const Limits middle = median(measured);
  EXPECT_EQ(middle.read_bandwidth, 2);
  EXPECT_EQ(middle.operations, (std::array<double, kUnits>{20, 5, 8}));
}

}  // namespace
}  // namespace moiety::bench
