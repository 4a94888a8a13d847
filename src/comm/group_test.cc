// Ranks as threads: what a group promises does not depend on who holds it.
#include "comm/group.h"

#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <functional>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace moiety::comm {
namespace {

// Calls `act` on every rank of a new group and hands on the first failure.
void on_ranks(int ranks, const std::function<void(Group&)>& act) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  const auto store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  std::vector<std::string> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Group group({.rank = rank, .ranks = ranks, .local_ranks = ranks, .address = "127.0.0.1", .port = store->getPort(), .hosts_store = false},
                    std::chrono::seconds(20));
        act(group);
      } catch (const std::exception& error) {
        failures[static_cast<size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

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
