#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace moiety {
namespace {

TEST(ThreadPool, EveryIndexRunsOnceInEveryOfManyRounds) {
  ThreadPool pool(4);
  EXPECT_EQ(pool.size(), 4);
  for (size_t round = 0; round < 2000; ++round) {
    std::vector<int> runs(round % 37);
    pool.parallel_for(runs.size(), [&](size_t i) { ++runs[i]; });
    for (const int count : runs) ASSERT_EQ(count, 1);
  }
}

TEST(ThreadPool, AnExceptionComesOutAndThePoolGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.parallel_for(100, [](size_t i) { if (i == 57) throw std::runtime_error("57"); }), std::runtime_error);
  }
  std::atomic<int> sum = 0;
  pool.parallel_for(10, [&](size_t i) { sum += static_cast<int>(i); });
  EXPECT_EQ(sum, 45);
}

}  // namespace
}  // namespace moiety
