#include "moe/assignment.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

#include "base/random.h"

namespace moiety::moe {
namespace {

double worth_of(const Matrix<float>& worth, const std::vector<int32_t>& columns) {
  double sum = 0;
  for (size_t r = 0; r < columns.size(); ++r) sum += worth.row(r)[static_cast<size_t>(columns[r])];
  return sum;
}

TEST(Assignment, NoPermutationIsWorthMore) {
  rc::check([](uint64_t seed) {
    Random random(seed);
    const size_t n = 1 + random.below(6);
    Matrix<float> worth(n, n);
    const bool has_ties = random.below(2) == 0;
    for (float& x : worth.flat()) x = has_ties ? static_cast<float>(random.below(3)) : static_cast<float>(random.normal());

    std::vector<int32_t> any(n);
    std::iota(any.begin(), any.end(), 0);
    double most = -1e9;
    do most = std::max(most, worth_of(worth, any));
    while (std::ranges::next_permutation(any).found);

    std::vector<int32_t> found = best_assignment(std::as_const(worth).view());
    RC_ASSERT(std::abs(worth_of(worth, found) - most) < 1e-6);
    std::ranges::sort(found);
    std::iota(any.begin(), any.end(), 0);
    RC_ASSERT(found == any);
  });
}

}  // namespace
}  // namespace moiety::moe
