#include "train/sinkhorn.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace moiety::train {
namespace {

// Each line of x is n numbers: rows, or columns.
struct Lines {
  size_t n, line_stride, stride;
  size_t at(size_t line, size_t i) const { return line * line_stride + i * stride; }
};
Lines rows_of(size_t n) { return {n, n, 1}; }
Lines columns_of(size_t n) { return {n, 1, n}; }

// x -= log of the sum of exp(x), line by line
void normalise(const Lines& lines, std::span<double> x) {
  for (size_t line = 0; line < lines.n; ++line) {
    double largest = x[lines.at(line, 0)], sum = 0;
    for (size_t i = 1; i < lines.n; ++i) largest = std::max(largest, x[lines.at(line, i)]);
    for (size_t i = 0; i < lines.n; ++i) sum += std::exp(x[lines.at(line, i)] - largest);
    const double log_sum = largest + std::log(sum);
    for (size_t i = 0; i < lines.n; ++i) x[lines.at(line, i)] -= log_sum;
  }
}

// d: the gradient of what came out, `y`, into that of what went in.
void normalise_backward(const Lines& lines, std::span<const double> y, std::span<double> d) {
  for (size_t line = 0; line < lines.n; ++line) {
    double sum = 0;
    for (size_t i = 0; i < lines.n; ++i) sum += d[lines.at(line, i)];
    for (size_t i = 0; i < lines.n; ++i) d[lines.at(line, i)] -= std::exp(y[lines.at(line, i)]) * sum;
  }
}

// Calls see(y) with the logarithms after each of the 2 * rounds normalisations.
template <class See>
Matrix<double> balance(MatrixView<const double> log, double temperature, int rounds, const See& see) {
  const size_t n = log.rows();
  Matrix<double> x(n, n);
  for (size_t i = 0; i < n * n; ++i) x.flat()[i] = log.flat()[i] / temperature;
  for (int round = 0; round < rounds; ++round) {
    for (const Lines& lines : {rows_of(n), columns_of(n)}) {
      normalise(lines, x.flat());
      see(x.flat());
    }
  }
  return x;
}

}  // namespace

Matrix<double> sinkhorn(MatrixView<const double> log, double temperature, int rounds) {
  Matrix<double> x = balance(log, temperature, rounds, [](std::span<const double>) {});
  for (double& value : x.flat()) value = std::exp(value);
  return x;
}

Matrix<double> sinkhorn_backward(MatrixView<const double> log, double temperature, int rounds, MatrixView<const double> gradient) {
  const size_t n = log.rows();
  std::vector<std::vector<double>> made;
  const Matrix<double> last =
      balance(log, temperature, rounds, [&](std::span<const double> y) { made.emplace_back(y.begin(), y.end()); });
  Matrix<double> d(n, n);
  for (size_t i = 0; i < n * n; ++i) d.flat()[i] = gradient.flat()[i] * std::exp(last.flat()[i]);
  for (size_t i = made.size(); i-- > 0;) normalise_backward(i % 2 == 0 ? rows_of(n) : columns_of(n), made[i], d.flat());
  for (double& value : d.flat()) value /= temperature;
  return d;
}

}  // namespace moiety::train
