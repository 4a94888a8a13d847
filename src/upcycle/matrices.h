// Rows and columns of matrices that are plain lists of numbers, row after row.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace moiety::upcycle {

// Rows begin … begin + count of a matrix of `cols` columns.
inline std::vector<float> rows_of(const std::vector<float>& matrix, size_t cols, size_t begin, size_t count) {
  const auto first = matrix.begin() + static_cast<ptrdiff_t>(begin * cols);
  return {first, first + static_cast<ptrdiff_t>(count * cols)};
}

// These rows, in this order.
inline std::vector<float> rows_of(const std::vector<float>& matrix, size_t cols, std::span<const int> rows) {
  std::vector<float> out;
  out.reserve(rows.size() * cols);
  for (const int row : rows) {
    const auto first = matrix.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(row) * cols);
    out.insert(out.end(), first, first + static_cast<ptrdiff_t>(cols));
  }
  return out;
}

inline std::vector<float> cols_of(const std::vector<float>& matrix, size_t cols, std::span<const int> chosen) {
  std::vector<float> out;
  out.reserve(matrix.size() / cols * chosen.size());
  for (size_t begin = 0; begin < matrix.size(); begin += cols) {
    for (const int col : chosen) out.push_back(matrix[begin + static_cast<size_t>(col)]);
  }
  return out;
}

inline std::vector<float> cols_of(const std::vector<float>& matrix, size_t cols, size_t begin, size_t count) {
  std::vector<float> out;
  out.reserve(matrix.size() / cols * count);
  for (size_t row = begin; row < matrix.size(); row += cols) {
    const auto first = matrix.begin() + static_cast<ptrdiff_t>(row);
    out.insert(out.end(), first, first + static_cast<ptrdiff_t>(count));
  }
  return out;
}

inline std::vector<float> scaled(std::vector<float> values, float scale) {
  for (float& x : values) x *= scale;
  return values;
}

inline double root_mean_square(std::span<const float> values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * x;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace moiety::upcycle
