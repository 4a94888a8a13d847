#include "train/part.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

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

TEST(Part, NeighboursAreOneStretch) {
  const std::array<int64_t, 2> shape{4, 3};
  EXPECT_EQ(Part::slices(shape, 0, std::array{Stretch{1, 1}, Stretch{2, 2}}).stretches().size(), 1);
  EXPECT_EQ(Part::slices(shape, 1, std::array{Stretch{0, 3}}).stretches().size(), 1);
  EXPECT_TRUE(Part::slices(shape, 0, {}).stretches().empty());
}

}  // namespace
}  // namespace moiety::train
