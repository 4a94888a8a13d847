// Ranks as threads: what a group promises does not depend on who holds it.
#include "comm/group.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "comm/mesh.h"
#include "support/rank_threads.h"

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

TEST(Group, TheFirstTellsTheOthers) {
  on_ranks(3, [](Group& group) {
    if (group.is_first()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(group.tell("what", group.is_first() ? "this" : "not this"), "this");
    EXPECT_EQ(group.tell("empty", group.is_first() ? "" : "not this"), "");
  });
}

TEST(Group, GathersAndSendsFromEachToEach) {
  for (const int ranks : {1, 2, 3, 5}) {
    on_ranks(ranks, [&](Group& group) {
      const int me = group.rank();
      const std::vector<int64_t> mine{me, 10 * me}, all = group.gather(mine);
      for (int rank = 0; rank < ranks; ++rank) EXPECT_EQ(all[static_cast<size_t>(2 * rank) + 1], 10 * rank);

      // (from + 2 to) % 4 bytes, some of them none; and nothing at all.
      const auto count = [](int from, int to) { return static_cast<size_t>((from + 2 * to) % 4); };
      std::vector<size_t> out_W, in_W;
      std::vector<std::byte> out, expected;
      for (int rank = 0; rank < ranks; ++rank) {
        out_W.push_back(count(me, rank));
        in_W.push_back(count(rank, me));
        out.insert(out.end(), count(me, rank), static_cast<std::byte>(16 * me + rank));
        expected.insert(expected.end(), count(rank, me), static_cast<std::byte>(16 * rank + me));
      }
      std::vector<std::byte> in(expected.size());
      Pending first = group.all_to_all(out, out_W, in, in_W);
      const std::vector<size_t> none(static_cast<size_t>(ranks));
      Pending second = group.all_to_all({}, none, {}, none);
      second.wait();
      first.wait();
      EXPECT_EQ(in, expected);

      if (ranks == 1) return;
      std::vector<float> numbers{1, 2};
      if (me == 0) group.start_receive(ranks - 1, numbers).wait();
      if (me == ranks - 1) group.start_send(0, std::vector<float>{3, 4}).wait();
      EXPECT_EQ(numbers, me == 0 ? (std::vector<float>{3, 4}) : (std::vector<float>{1, 2}));
    });
  }
}

TEST(Mesh, NeighboursShareExpertsAndTheOthersHoldTheSame) {
  on_ranks(6, [](Group& group) {
    Mesh mesh(group, {.experts = 3});
    std::vector<double> sum{static_cast<double>(group.rank())};
    mesh.experts()->sum(sum);
    EXPECT_EQ(sum[0], group.rank() < 3 ? 0 + 1 + 2 : 3 + 4 + 5);
    EXPECT_EQ(mesh.experts()->rank(), group.rank() % 3);
    sum = {static_cast<double>(group.rank())};
    mesh.same_experts()->sum(sum);
    EXPECT_EQ(sum[0], 2 * (group.rank() % 3) + 3);
    Mesh alone(group, {}), all(group, {.experts = 6});
    EXPECT_EQ(alone.experts(), nullptr);
    EXPECT_EQ(alone.same_experts(), &group);
    EXPECT_EQ(all.same_experts(), nullptr);
    EXPECT_THROW(Mesh(group, {.experts = 4}), Error);
    EXPECT_THROW(Mesh(group, {.sequence = 4}), Error);
  });
}

TEST(Group, ARankThatIsGoneEndsTheOthersCalls) {
  std::vector<std::string> words(3);
  on_ranks(3, [&](Group& group) {
    const Activity::Span span(&group.activity(), "sums");
    std::vector<float> numbers(100, 1);
    group.sum(numbers);
    if (group.rank() == 2) return;  // its sockets close
    try {
      for (;;) group.sum(numbers);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("lost rank 2 in exchange 2 (sum of 100 numbers; sums): it never came to it; it has ended"), std::string::npos) << error.what();
    }
    words[static_cast<size_t>(group.rank())] = group.last_words();
  });
  EXPECT_NE(words[0].find("rank 2    has ended, after exchange 1"), std::string::npos) << words[0];
  EXPECT_NE(words[0].find("never ended"), std::string::npos) << words[0];
  EXPECT_EQ(words[1], "");  // one speaks for all
}

TEST(Group, WhoeverEndsByAFailureIsNamedWithIt) {
  on_ranks(3, [](Group& group) {
    if (group.rank() == 1) return group.leave("ended: its disk is full");
    std::vector<double> number{1};
    try {
      group.is_first() ? group.sum(number) : static_cast<void>(group.tell("never told", ""));
      ADD_FAILURE() << "rank " << group.rank();
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("rank 1"), std::string::npos) << what;
      EXPECT_NE(what.find("its disk is full"), std::string::npos) << what;
    }
  });
}

TEST(Group, WhoIsNotAlikeIsSentAwayAndAllHearOfIt) {
  Store store(3);
  std::vector<std::string> words(3);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Group({.rank = rank, .ranks = 3, .local_ranks = 3, .address = "127.0.0.1", .port = store.port(), .hosts_store = false}, {},
              rank == 1 ? "version 2" : "version 1");
      } catch (const Error& error) {
        words[static_cast<size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(words[1], "rank 1 is version 2, one of 3 ranks; rank 0 is version 1, one of 3 ranks: all ranks must be alike");
  for (const int rank : {0, 2}) EXPECT_NE(words[static_cast<size_t>(rank)].find("waits for rank 1 in vain: it ended: rank 1 is version 2"), std::string::npos) << words[static_cast<size_t>(rank)];
}

TEST(Group, BytesAreCountedByWhomTheyAreSentTo) {
  on_ranks(3, [](Group& group) {
    const auto before = group.bytes_sent();
    EXPECT_EQ(before, (std::vector<uint64_t>{0, 0, 0}));
    const std::vector<int> members{0, 2};
    std::vector<float> numbers(10);
    if (group.rank() != 1) Group(group, members, "ends").sum(numbers);
    std::vector<uint64_t> expected(3);
    if (group.rank() != 1) expected[group.rank() == 0 ? 2 : 0] = 40;  // half of it twice
    EXPECT_EQ(group.bytes_sent(), expected);
  });
}

TEST(Group, WhoeverDoesNotComeIsWaitedForNoLongerThanSaid) {
  const Place alone{.rank = 0, .ranks = 2, .local_ranks = 2, .address = "127.0.0.1", .port = 0};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(Group(alone, {std::chrono::seconds(1), std::chrono::seconds(1)}), Error);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

}  // namespace
}  // namespace moiety::comm
