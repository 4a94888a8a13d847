#include "comm/stretches.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/rank_threads.h"

namespace moiety::comm {
namespace {

// Stretches of all lengths, none and more than goes out at once among them.
TEST(Stretches, AreSummedAndShared) {
  const std::vector<std::vector<size_t>> cuts{{0, 5, 5, 12}, {0, 0, 3, 3}, {0, 2'200'000, 2'200'001, 3'300'000}, {0, 0, 0, 0}};
  for (const std::vector<size_t>& begin : cuts) {
    test::on_ranks(3, [&](Group& group) {
      const auto mine = static_cast<size_t>(group.rank());
      std::vector<float> numbers(begin.back());
      for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>((i % 1000) * (mine + 1));
      sum_stretches(group, numbers, begin);
      for (size_t i = begin[mine]; i < begin[mine + 1]; ++i) ASSERT_EQ(numbers[i], static_cast<float>((i % 1000) * 6)) << i;
      for (size_t i = 0; i < numbers.size(); ++i) {
        if (i < begin[mine] || i >= begin[mine + 1]) numbers[i] = -1;
      }
      share_stretches(group, numbers, begin);
      for (size_t i = 0; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], static_cast<float>((i % 1000) * 6)) << i;
    });
  }
}

}  // namespace
}  // namespace moiety::comm
