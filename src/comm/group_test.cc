#include "comm/group.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "../tests/support/ranks_as_threads.h"

namespace moiety::comm {
namespace {

using test::on_ranks;

TEST(Group, SumsOverAllRanksAndAllGetTheSameBits) {
  for (const int ranks : {2, 3, 5}) {
    std::vector<std::vector<float>> sums(static_cast<size_t>(ranks));
    std::vector<double> expected(1000, 0);
    for (int rank = 0; rank < ranks; ++rank) {
      Random random(7, static_cast<uint64_t>(rank));
      for (double& sum : expected) sum += static_cast<float>(random.normal());
    }
    on_ranks(ranks, [&](Group& group) {
      Random random(7, static_cast<uint64_t>(group.rank()));
      std::vector<float> numbers(1000);
      for (float& number : numbers) number = static_cast<float>(random.normal());
      group.sum(numbers);
      std::vector<double> counts{1, static_cast<double>(group.rank())};
      group.sum(counts);
      EXPECT_EQ(counts[0], ranks);
      EXPECT_EQ(counts[1], ranks * (ranks - 1) / 2);
      group.sum(std::span<float>{});  // nothing is nothing
      sums[static_cast<size_t>(group.rank())] = numbers;
    });
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(sums[0][i], expected[i], 1e-5);
    for (const auto& sum : sums) EXPECT_EQ(sum, sums[0]);
  }
}

// Stretches of all lengths, none and more than goes out at once among them.
TEST(Group, SumsAndSharesStretches) {
  const std::vector<std::vector<size_t>> cuts{{0, 5, 5, 12}, {0, 0, 3, 3}, {0, 2'200'000, 2'200'001, 3'300'000}, {0, 0, 0, 0}};
  for (const std::vector<size_t>& begin : cuts) {
    on_ranks(3, [&](Group& group) {
      const auto mine = static_cast<size_t>(group.rank());
      std::vector<float> numbers(begin.back());
      for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>((i % 1000) * (mine + 1));
      group.sum_stretches(numbers, begin);
      for (size_t i = begin[mine]; i < begin[mine + 1]; ++i) ASSERT_EQ(numbers[i], static_cast<float>((i % 1000) * 6)) << i;
      for (size_t i = 0; i < numbers.size(); ++i) {
        if (i < begin[mine] || i >= begin[mine + 1]) numbers[i] = -1;
      }
      group.share_stretches(numbers, begin);
      for (size_t i = 0; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], static_cast<float>((i % 1000) * 6)) << i;
    });
  }
}

TEST(Group, HandsNumbersToTheFirst) {
  on_ranks(3, [](Group& group) {
    for (int from = 0; from < 3; ++from) {
      std::vector<float> numbers(100, static_cast<float>(group.rank()));
      group.hand_to_first(numbers, from);
      EXPECT_EQ(numbers, std::vector<float>(100, static_cast<float>(group.is_first() ? from : group.rank())));
    }
  });
}

TEST(Group, TheFirstTellsTheOthers) {
  on_ranks(3, [](Group& group) {
    if (group.is_first()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(group.tell("what", group.is_first() ? "this" : "not this"), "this");
    EXPECT_EQ(group.tell("empty", group.is_first() ? "" : "not this"), "");
  });
}

TEST(Group, ARankThatIsGoneEndsTheOthersCalls) {
  on_ranks(3, [](Group& group) {
    std::vector<float> numbers(100, 1);
    group.sum(numbers);
    if (group.rank() == 2) return;  // its sockets close
    try {
      for (;;) group.sum(numbers);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("lost another one in exchange"), std::string::npos) << error.what();
    }
  });
}

TEST(Group, WhoeverDoesNotComeIsWaitedForNoLongerThanSaid) {
  const Place alone{.rank = 0, .ranks = 2, .local_ranks = 2, .address = "127.0.0.1", .port = 0};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(Group(alone, std::chrono::seconds(1)), Error);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

}  // namespace
}  // namespace moiety::comm
