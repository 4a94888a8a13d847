#include "train/part.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "base/random.h"

namespace moiety::train {
namespace {

TEST(Part, SlicesAlongAnyAxisAreThoseOfTheTensor) {
  const std::array<int64_t, 3> shape{3, 5, 2};
  std::vector<int> whole(30);
  std::iota(whole.begin(), whole.end(), 0);
  for (size_t axis = 0; axis < 3; ++axis) {
    const std::vector<Stretch> kept = axis == 1 ? std::vector<Stretch>{{0, 1}, {2, 2}} : std::vector<Stretch>{{1, 1}};
    std::vector<int> expected;
    for (size_t a = 0; a < 3; ++a) {
      for (size_t b = 0; b < 5; ++b) {
        for (size_t c = 0; c < 2; ++c) {
          const size_t at = std::array{a, b, c}[axis];
          const bool is_kept = std::ranges::any_of(kept, [&](const Stretch& slices) { return slices.begin <= at && at < slices.end(); });
          if (is_kept) expected.push_back(static_cast<int>(a * 10 + b * 2 + c));
        }
      }
    }
    const Part part = Part::slices(shape, axis, kept);
    std::vector<int> here(part.size());
    part.take(std::span<const int>(whole), std::span(here));
    EXPECT_EQ(here, expected) << axis;

    std::vector<int> back(30, -1);
    part.put(std::span<const int>(here), std::span(back));
    for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i], std::ranges::binary_search(here, static_cast<int>(i)) ? static_cast<int>(i) : -1);

    // Any numbers of what is here are the same numbers of the whole.
    for (size_t begin = 0; begin < here.size(); ++begin) {
      for (size_t size = 0; begin + size <= here.size(); ++size) {
        const Part middle = part.middle(begin, size);
        ASSERT_EQ(middle.size(), size);
        std::vector<int> some(size);
        middle.take(std::span<const int>(whole), std::span(some));
        EXPECT_TRUE(std::ranges::equal(some, std::span(here).subspan(begin, size)));
      }
    }
  }
}

TEST(Part, WithWithoutAndCopiesAreThoseOfSets) {
  Random random(6);
  for (int round = 0; round < 200; ++round) {
    const auto some = [&] {
      Part part;
      for (size_t i = 0; i < 40; ++i) {
        if (random.below(3) > 0) part.add({i, 1});
      }
      return part;
    };
    const Part a = some(), b = some(), both = a.with(b), rest = a.without(b);
    const auto holds = [](const Part& part, size_t i) {
      return std::ranges::any_of(part.stretches(), [&](const Stretch& stretch) { return stretch.begin <= i && i < stretch.end(); });
    };
    for (size_t i = 0; i < 40; ++i) {
      ASSERT_EQ(holds(both, i), holds(a, i) && holds(b, i));
      ASSERT_EQ(holds(rest, i), holds(a, i) && !holds(b, i));
    }
    std::vector<int> whole(40), in_a(a.size()), in_b(b.size(), -1);
    std::iota(whole.begin(), whole.end(), 0);
    a.take(std::span<const int>(whole), std::span(in_a));
    copy_part(both, a, std::span(in_a), b, std::span(in_b));
    std::vector<int> expected(b.size());
    b.take(std::span<const int>(whole), std::span(expected));
    for (size_t i = 0; i < in_b.size(); ++i) EXPECT_EQ(in_b[i], holds(a, static_cast<size_t>(expected[i])) ? expected[i] : -1);
  }
}

TEST(Part, NeighboursAreOneStretch) {
  const std::array<int64_t, 2> shape{4, 3};
  EXPECT_EQ(Part::slices(shape, 0, std::array{Stretch{1, 1}, Stretch{2, 2}}).stretches().size(), 1);
  EXPECT_EQ(Part::slices(shape, 1, std::array{Stretch{0, 3}}).stretches().size(), 1);
  EXPECT_TRUE(Part::slices(shape, 0, {}).stretches().empty());
}

}  // namespace
}  // namespace moiety::train
