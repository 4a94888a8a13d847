#include "train/state_stream.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace moiety::train {
namespace {

size_t memory_of(std::span<const size_t> bytes_G, const std::vector<bool>& resident) {
  size_t bytes = 0, largest = 0;
  for (size_t g = 0; g < bytes_G.size(); ++g) {
    if (resident[g]) bytes += bytes_G[g];
    largest = std::max(largest, PageBuffer::whole_pages(bytes_G[g]));
  }
  return std::ranges::count(resident, false) > 0 ? bytes + kStreamPlaces * largest : bytes;
}

TEST(ResidentGroups, AsManyAsFitSpreadEvenly) {
  const std::vector<size_t> bytes_G(10, 4096);
  const auto with = [&](size_t pages) { return resident_groups(bytes_G, pages * 4096); };
  EXPECT_EQ(with(10), std::vector<bool>(10, true));
  EXPECT_EQ(std::ranges::count(with(0), true), 0);
  EXPECT_EQ(std::ranges::count(with(4), true), 0);
  EXPECT_EQ(with(6), (std::vector<bool>{false, false, false, false, true, false, false, false, false, true}));
  EXPECT_EQ(std::ranges::count(with(9), true), 5);
  // Fewer than there are places for
  EXPECT_EQ(resident_groups(std::vector<size_t>(4, 4096), 0), std::vector<bool>(4, true));
}

// Whatever is streamed: each visit finds what the last one left, and reads and writes in between do too.
TEST(StateStream, HoldsWhatMemoryWouldHold) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("moiety-stream-{}", ::getpid());
  const bool holds = rc::check([&](uint64_t seed) {
    const size_t groups = 1 + seed % 13, budget = (seed / 13) % 90000;
    std::vector<size_t> bytes_G(groups);
    for (size_t g = 0; g < groups; ++g) bytes_G[g] = 64 * (1 + (seed + 37 * g) % 150);
    StateStream stream(bytes_G, budget, folder, seed % 2 == 0 ? Transfers::Interleaved : Transfers::Blocking);
    std::vector<std::vector<std::byte>> expected(groups);
    for (size_t g = 0; g < groups; ++g) expected[g].resize(bytes_G[g]);
    RC_ASSERT(stream.memory_bytes() <= std::max(memory_of(bytes_G, std::vector<bool>(groups, false)), budget));
    const bool nothing_to_see = !fs::exists(folder) || fs::is_empty(folder);
    RC_ASSERT(nothing_to_see);

    for (int round = 0; round < 5; ++round) {
      std::vector<size_t> visited;
      stream.visit([&](size_t group, std::span<std::byte> state) {
        visited.push_back(group);
        RC_ASSERT(std::ranges::equal(state, expected[group]));
        for (size_t i = 0; i < state.size(); ++i) state[i] = expected[group][i] = static_cast<std::byte>(17 * i + 5 * group + 3 * round + 1);
      });
      std::ranges::sort(visited);
      std::vector<size_t> all(groups);
      std::iota(all.begin(), all.end(), size_t{0});
      RC_ASSERT(visited == all);
      for (size_t g = 0; g < groups; ++g) {
        std::vector<std::byte> state(bytes_G[g]);
        stream.read(g, state);
        RC_ASSERT(state == expected[g]);
        if ((g + static_cast<size_t>(round)) % 3 != 0) continue;
        expected[g].front() = std::byte{99};
        stream.write(g, expected[g]);
      }
    }
    if (stream.streamed() > kStreamPlaces) RC_ASSERT(stream.times().bytes_read > 0);
  });
  EXPECT_TRUE(holds);
  fs::remove_all(folder);
}

TEST(StateStream, ADiskWithoutRoomIsOneSentence) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("moiety-stream-{}", ::getpid());
  try {
    StateStream stream(std::vector<size_t>(5, size_t{1} << 58), 0, folder);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no room for"), std::string::npos) << error.what();
  } catch (const std::bad_alloc&) {
    FAIL() << "places before the file";
  }
  fs::remove_all(folder);
}

TEST(StreamTimes, WhatBindsIsWhatWasWaitedFor) {
  EXPECT_STREQ((StreamTimes{.visits = 10, .waited = 0.5, .read = 9, .write = 2}).binding(), "update");
  EXPECT_STREQ((StreamTimes{.visits = 10, .waited = 5, .read = 9, .write = 2}).binding(), "read");
  EXPECT_STREQ((StreamTimes{.visits = 10, .waited = 5, .read = 2, .write = 9}).binding(), "write");
}

}  // namespace
}  // namespace moiety::train
