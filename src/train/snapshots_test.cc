#include "train/snapshots.h"

#include <gtest/gtest.h>

#include <mutex>

#include "base/random.h"
#include "support/rank_threads.h"

namespace moiety::train {
namespace {

constexpr size_t kTensors = 3, kSize = 1000;

float number(size_t tensor, size_t at, int64_t step) { return static_cast<float>(10'000 * step) + static_cast<float>(kSize * tensor + at); }

// A rank's parts: some that all have, the rest in turn.
std::vector<Part> parts_of(int rank, int ranks) {
  std::vector<Part> parts(kTensors);
  for (size_t n = 0; n < kTensors; ++n) {
    for (size_t at = 0; at < kSize; at += 50) {
      if (n == 0 || static_cast<int>(at / 50 % static_cast<size_t>(ranks)) == rank) parts[n].add({at, 50});
    }
  }
  return parts;
}

struct State {
  State(int rank, int ranks, int64_t step) : numbers_N(kTensors) {
    const std::vector<Part> parts = parts_of(rank, ranks);
    for (size_t n = 0; n < kTensors; ++n) {
      for (const Stretch& stretch : parts[n].stretches()) {
        for (size_t at = stretch.begin; at < stretch.end(); ++at) numbers_N[n].push_back(number(n, at, step));
      }
      TensorPart& tensor = tensors.emplace_back(TensorPart{{}, parts[n]});
      tensor.here.name = std::to_string(n);
      tensor.here.shape = {kSize};
      tensor.here.parts.push_back({"", spec::ElementType::F32, {}, std::as_bytes(std::span(numbers_N[n]))});
    }
  }
  std::vector<std::vector<float>> numbers_N;
  std::vector<TensorPart> tensors;
};

std::vector<Snapshots> after_steps(int ranks, int64_t steps) {
  std::vector<Snapshots> snapshots(static_cast<size_t>(ranks));
  test::on_ranks(ranks, [&](comm::Group& group) {
    Snapshots& mine = snapshots[static_cast<size_t>(group.rank())];
    mine.lay_out(State(group.rank(), ranks, 0).tensors, group);
    for (int64_t step = 0; step <= steps; ++step) {
      const State state(group.rank(), ranks, step);
      mine.commit(step, state.tensors, {{"step", step}}, group);
    }
  });
  return snapshots;
}

// On other ranks than before, of which the first so many have their snapshots still.
void expect_restored(const std::vector<Snapshots>& left, int ranks, int64_t step) {
  test::on_ranks(ranks, [&](comm::Group& group) {
    const auto rank = static_cast<size_t>(group.rank());
    const Snapshots none;
    const State wanted(group.rank(), ranks, 0);
    const auto found = (rank < left.size() ? left[rank] : none).restore(step, wanted.tensors, group);
    ASSERT_TRUE(found);
    const Snapshots::Restored& restored = *found;
    EXPECT_EQ(restored.where.at("step"), step);
    for (size_t n = 0; n < kTensors; ++n) {
      const auto* const numbers = reinterpret_cast<const float*>(restored.tensors[n].bytes.data());
      ASSERT_EQ(restored.tensors[n].bytes.size(), kSize * sizeof(float));
      for (const Stretch& stretch : wanted.tensors[n].part.stretches()) {
        for (size_t at = stretch.begin; at < stretch.end(); ++at) ASSERT_EQ(numbers[at], number(n, at, step));
      }
    }
  });
}

TEST(Snapshots, AnyRankMayBeLostAndOthersMayCome) {
  for (const int ranks : {2, 3, 4}) {
    const std::vector<Snapshots> all = after_steps(ranks, 4);
    EXPECT_EQ(all[0].steps().size(), 2);
    for (int lost = 0; lost < ranks; ++lost) {
      std::vector<Snapshots> left = all;
      left.erase(left.begin() + lost);
      for (const int64_t step : {3, 4}) {
        for (const int now : {ranks - 1, ranks, ranks + 1}) expect_restored(left, now, step);
      }
    }
  }
}

TEST(Snapshots, TwoNeighboursAreTooMany) {
  std::vector<Snapshots> left = after_steps(4, 1);
  left.erase(left.begin() + 1, left.begin() + 3);
  test::on_ranks(2, [&](comm::Group& group) {
    const State wanted(group.rank(), 2, 0);
    EXPECT_FALSE(left[static_cast<size_t>(group.rank())].restore(1, wanted.tensors, group));
  });
}

}  // namespace
}  // namespace moiety::train
