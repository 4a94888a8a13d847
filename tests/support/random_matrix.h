// A matrix of standard normal numbers.
#pragma once

#include "base/matrix.h"
#include "base/random.h"

namespace moiety::test {

inline Matrix<float> random_matrix(size_t rows, size_t cols, uint64_t seed) {
  Matrix<float> x(rows, cols);
  Random random(seed);
  for (float& number : x.flat()) number = static_cast<float>(random.normal());
  return x;
}

}  // namespace moiety::test
