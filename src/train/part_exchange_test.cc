#include "train/part_exchange.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {


TEST(PartExchange, EverybodyGetsWhatItWants) {
  Random random(8);
  for (int round = 0; round < 20; ++round) {
    const size_t ranks = 1 + random.below(4), tensors = 1 + random.below(4), pieces = 1 + random.below(2);
    std::vector<std::vector<std::vector<Part>>> have_NKW(tensors, std::vector(pieces, std::vector<Part>(ranks)));
    std::vector<std::vector<Part>> want_NW(tensors, std::vector<Part>(ranks));
    for (size_t n = 0; n < tensors; ++n) {
      const size_t size = random.below(500);
      for (size_t at = 0; at < size;) {
        const size_t length = std::min(size - at, 1 + static_cast<size_t>(random.below(40)));
        const size_t owner = random.below(ranks), piece = random.below(pieces);
        for (size_t rank = 0; rank < ranks; ++rank) {
          if (rank == owner || random.below(4) == 0) have_NKW[n][piece][rank].add({at, length});
          if (random.below(2) == 0) want_NW[n][rank].add({at + length / 3, length - length / 3});
        }
        at += length;
      }
    }
    const auto number = [](size_t n, size_t at) { return static_cast<float>(1000 * n + at); };
    test::on_ranks(static_cast<int>(ranks), [&](comm::Group& group) {
      const auto rank = static_cast<size_t>(group.rank());
      std::vector<std::vector<std::vector<float>>> numbers_NK(tensors);
      std::vector<std::vector<float>> found_N;
      std::vector<std::vector<HeldPart>> have_NK(tensors);
      std::vector<WantedPart> want_N;
      for (size_t n = 0; n < tensors; ++n) {
        for (size_t k = 0; k < pieces; ++k) {
          std::vector<float>& numbers = numbers_NK[n].emplace_back();
          for (const Stretch& stretch : have_NKW[n][k][rank].stretches()) {
            for (size_t at = stretch.begin; at < stretch.end(); ++at) numbers.push_back(number(n, at));
          }
        }
        for (size_t k = 0; k < pieces; ++k) have_NK[n].push_back({have_NKW[n][k][rank], numbers_NK[n][k]});
        found_N.emplace_back(want_NW[n][rank].size(), -1.0f);
      }
      for (size_t n = 0; n < tensors; ++n) want_N.push_back({want_NW[n][rank], found_N[n]});
      ASSERT_TRUE(exchange_parts(have_NK, want_N, group));
      for (size_t n = 0; n < tensors; ++n) {
        size_t next = 0;
        for (const Stretch& stretch : want_NW[n][rank].stretches()) {
          for (size_t at = stretch.begin; at < stretch.end(); ++at) ASSERT_EQ(found_N[n][next++], number(n, at));
        }
      }
    });
  }
}

TEST(PartExchange, EveryRankHearsOfWhatNobodyHas) {
  test::on_ranks(3, [](comm::Group& group) {
    const std::vector<float> numbers(4, 1.0f);
    std::vector<float> found(group.is_first() ? 10 : 0);
    const Part have({{0, 4}}), want = group.is_first() ? Part({{0, 10}}) : Part();
    EXPECT_FALSE(exchange_parts({{{have, numbers}}}, {{want, found}}, group));
  });
}

}  // namespace
}  // namespace moiety::train
