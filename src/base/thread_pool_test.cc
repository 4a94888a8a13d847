#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "support/faked_machine.h"

namespace moiety {
namespace {

Topology two_nodes_of_two() {
  test::FakedMachine machine;
  machine.add_node({{0}, {1}}).add_node({{2}, {3}});
  return read_topology(machine.root(), machine.cpus());
}

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

TEST(ThreadPool, WorkersThatWentToSleepComeBack) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    // Two tasks that wait for each other end only if two threads run them.
    std::atomic<int> met = 0;
    pool.parallel_for(2, [&](size_t) {
      ++met;
      while (met < 2) std::this_thread::yield();
    });
    ASSERT_EQ(met, 2);
  }
}

TEST(ThreadPool, EachThreadBeginsWithARunOfItsOwn) {
  ThreadPool pool(2);
  for (int round = 0; round < 200; ++round) {
    // The first index waits for the fifth: whoever runs that has run none of those between.
    std::atomic<bool> fifth = false, second = false, second_came_first = false;
    pool.parallel_for(8, [&](size_t i) {
      if (i == 1) second = true;
      if (i == 4) second_came_first = second.load(), fifth = true;
      while (i == 0 && !fifth) std::this_thread::yield();
    });
    ASSERT_FALSE(second_came_first);
  }
}

TEST(ThreadPool, RoundsAreCountedPastTheEndOfTheirNumber) {
  ThreadPool pool(2);
  size_t sum = 0;
  for (size_t round = 0; round < 70000; ++round) {
    std::array<size_t, 2> values{};
    pool.parallel_for(2, [&](size_t i) { values[i] = round; });
    sum += values[0] + values[1];
  }
  EXPECT_EQ(sum, size_t{70000} * 69999);
}

// The processors that each of the pool's threads may use, the caller's first.
std::vector<size_t> processors_by_thread(ThreadPool& pool) {
  const auto caller = std::this_thread::get_id();
  std::vector<size_t> counts(static_cast<size_t>(pool.size()));
  std::atomic<size_t> met = 0, workers = 0;
  pool.parallel_for(counts.size(), [&](size_t) {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    counts[std::this_thread::get_id() == caller ? 0 : ++workers] = static_cast<size_t>(CPU_COUNT(&mask));
    ++met;
    while (met < counts.size()) std::this_thread::yield();
  });
  return counts;
}

TEST(ThreadPool, WorkersHaveACoreEachAndTheCallerIsFree) {
  const Topology machine = this_machine();
  const size_t all = machine.nodes[0].size();
  if (machine.num_nodes() > 1 || machine.cores.size() < 2) GTEST_SKIP() << "needs several cores of one node";
  std::vector<size_t> expected(machine.cores.size(), 1);
  expected[0] = all;
  ThreadPool whole(static_cast<int>(machine.cores.size()));
  EXPECT_EQ(processors_by_thread(whole), expected);

  ThreadPool larger(static_cast<int>(machine.cores.size()) + 1);
  EXPECT_EQ(processors_by_thread(larger), std::vector<size_t>(machine.cores.size() + 1, all));
}

TEST(ThreadPool, AllThreadsOfTheTopologyByDefault) {
  ThreadPool pool(0, two_nodes_of_two());
  EXPECT_EQ(pool.size(), 4);
  EXPECT_EQ(pool.num_nodes(), 2);
}

TEST(ThreadPool, ByNodeEveryIndexRunsOnceHoweverUnevenTheNodesAre) {
  ThreadPool pool(4, two_nodes_of_two());
  for (size_t round = 0; round < 2000; ++round) {
    const std::array<size_t, 2> counts{round % 7 * (round % 3), round % 11};
    std::vector<int> runs(counts[0] + counts[1]);
    pool.parallel_for_by_node(counts, [&](size_t i) { ++runs[i]; });
    for (const int count : runs) ASSERT_EQ(count, 1);
  }
}

// Four tasks that all wait for each other: four threads are in the round, one task each. Two of them are on each node.
TEST(ThreadPool, ByNodeThreadsTakeTheirOwnNodesTasks) {
  ThreadPool pool(4, two_nodes_of_two());
  const std::array<size_t, 2> counts{2, 2};
  const auto threads_of_tasks = [&] {
    std::vector<std::thread::id> ids(4);
    std::atomic<int> met = 0;
    pool.parallel_for_by_node(counts, [&](size_t i) {
      ids[i] = std::this_thread::get_id();
      ++met;
      while (met < 4) std::this_thread::yield();
    });
    std::sort(ids.begin(), ids.begin() + 2);
    std::sort(ids.begin() + 2, ids.end());
    return ids;
  };
  const auto first = threads_of_tasks();
  for (int round = 0; round < 100; ++round) ASSERT_EQ(threads_of_tasks(), first);
}

TEST(ThreadPool, ByNodeOthersHelpWhenTheirOwnWorkIsDone) {
  ThreadPool pool(4, two_nodes_of_two());
  for (const auto& counts : {std::array<size_t, 2>{4, 0}, {0, 4}, {3, 1}}) {
    std::atomic<int> met = 0;
    pool.parallel_for_by_node(counts, [&](size_t) {
      ++met;
      while (met < 4) std::this_thread::yield();
    });
    EXPECT_EQ(met, 4);
  }
}

TEST(ThreadPool, ByNodeAnExceptionComesOut) {
  ThreadPool pool(4, two_nodes_of_two());
  const std::array<size_t, 2> counts{50, 50};
  EXPECT_THROW(pool.parallel_for_by_node(counts, [](size_t i) { if (i == 57) throw std::runtime_error("57"); }), std::runtime_error);
}

}  // namespace
}  // namespace moiety
