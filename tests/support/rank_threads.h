// Ranks as threads of one process: what a group promises does not depend on who holds it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "comm/group.h"

namespace moiety::test {

// Calls `act` on every rank of a new group; no rank may fail.
inline void on_ranks(int ranks, const std::function<void(comm::Group&)>& act) {
  comm::Store store(ranks);
  std::vector<std::string> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        comm::Group group({.rank = rank, .ranks = ranks, .local_ranks = ranks, .address = "127.0.0.1", .port = store.port(), .hosts_store = false},
                          {std::chrono::seconds(60), std::chrono::seconds(60)});
        act(group);
      } catch (const std::exception& error) {
        failures[static_cast<size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

}  // namespace moiety::test
