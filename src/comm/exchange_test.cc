#include "comm/exchange.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::comm {
namespace {

using test::on_ranks;

// Sizes of the n-th exchange: a third of them nothing, and in the last one all of them.
Matrix<size_t> random_sizes(int ranks, uint64_t n, bool empty) {
  Matrix<size_t> bytes_WW(static_cast<size_t>(ranks), static_cast<size_t>(ranks));
  Random random(3, n);
  for (size_t& bytes : bytes_WW.flat()) bytes = empty || random.below(3) == 0 ? 0 : random.below(3000);
  return bytes_WW;
}

std::byte byte_of(int from, int to, uint64_t n) { return static_cast<std::byte>(31 * from + 7 * to + static_cast<int>(n)); }

// Several on their way at once, finished in another order than they were started in.
void expect_to_arrive(std::string_view kind, int ranks, int local) {
  constexpr uint64_t kExchanges = 5;
  on_ranks(ranks, [&](Group& group) {
    const auto exchange = make_exchange(kind, group, local);
    std::vector<std::unique_ptr<Arrival>> arrivals;
    for (uint64_t n = 0; n < kExchanges; ++n) {
      const Matrix<size_t> bytes_WW = random_sizes(ranks, n, n + 1 == kExchanges);
      Parcels out(bytes_WW.row(static_cast<size_t>(group.rank())));
      for (int to = 0; to < ranks; ++to) std::ranges::fill(out.of(to), byte_of(group.rank(), to, n));
      arrivals.push_back(exchange->start(std::move(out), bytes_WW));
    }
    for (uint64_t n = kExchanges; n-- > 0;) {
      const Parcels in = arrivals[n]->finish();
      const Matrix<size_t> bytes_WW = random_sizes(ranks, n, n + 1 == kExchanges);
      for (int from = 0; from < ranks; ++from) {
        const auto parcel = in.of(from);
        ASSERT_EQ(parcel.size(), bytes_WW.row(static_cast<size_t>(from))[static_cast<size_t>(group.rank())]);
        for (const std::byte byte : parcel) ASSERT_EQ(byte, byte_of(from, group.rank(), n)) << kind << " from " << from;
      }
    }
  });
}

TEST(Exchange, WhatIsSentArrivesWhateverWayItTakes) {
  for (const int ranks : {1, 2, 3, 6}) {
    expect_to_arrive("all_to_all", ranks, ranks);
    expect_to_arrive("all_gather", ranks, ranks);
  }
  for (const auto& [ranks, local] : {std::pair{4, 2}, {6, 2}, {6, 3}, {3, 3}, {3, 1}}) expect_to_arrive("two_level", ranks, local);
}

TEST(Exchange, NodesDivideTheGroup) {
  on_ranks(3, [](Group& group) { EXPECT_THROW(make_exchange("two_level", group, 2), Error); });
}

}  // namespace
}  // namespace moiety::comm
