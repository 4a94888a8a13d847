#include "train/factored_moment.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "train/parallel.h"

namespace moiety::train {

size_t FactoredMoments::add(size_t rows, size_t cols) {
  matrices_.push_back({rows, cols, row_mean_.size(), column_mean_.size(), pieces_.size(), 0});
  row_mean_.resize(row_mean_.size() + rows);
  row_sums_.resize(row_mean_.size());
  column_mean_.resize(column_mean_.size() + cols);
  column_root_.resize(column_mean_.size());
  return matrices_.size() - 1;
}

size_t FactoredMoments::add_piece(size_t matrix, size_t first_row, size_t rows) {
  assert(matrix + 1 == matrices_.size());
  ++matrices_[matrix].pieces;
  pieces_.push_back({matrix, first_row, rows, column_sums_.size()});
  column_sums_.resize(column_sums_.size() + matrices_[matrix].cols);
  return pieces_.size() - 1;
}

double FactoredMoments::measure(size_t piece, ConstFloats gradient) {
  const Piece& p = pieces_[piece];
  const Extent& m = matrices_[p.matrix];
  const Floats columns = Floats(column_sums_).subspan(p.at, m.cols);
  std::ranges::fill(columns, 0.0f);
  double total = 0;
  for (size_t r = 0; r < p.rows; ++r) {
    const double sum = add_squares(gradient.subspan(r * m.cols, m.cols), columns);
    row_sums_[m.row_at + p.first_row + r] = static_cast<float>(sum);
    total += sum;
  }
  return total;
}

void FactoredMoments::move_on(const AdamStep& step) {
  const float kept = step.beta2, taken = (1 - step.beta2) * step.gradient_scale * step.gradient_scale;
  parallel_tasks(matrices_.size(), [&](size_t i) {
    const Extent& m = matrices_[i];
    const Floats columns = this->columns(i, 1), rows = this->rows(i, 1);
    // The pieces' sums in their order
    const Floats sums = Floats(column_sums_).subspan(pieces_[m.first_piece].at, m.pieces * m.cols);
    for (size_t p = 1; p < m.pieces; ++p) train::add(sums.subspan(p * m.cols, m.cols), sums.first(m.cols));
    for (size_t c = 0; c < m.cols; ++c) columns[c] = kept * columns[c] + taken * sums[c] / static_cast<float>(m.rows);
    for (size_t r = 0; r < m.rows; ++r) rows[r] = kept * rows[r] + taken * row_sums_[m.row_at + r] / static_cast<float>(m.cols);

    const double mean = std::accumulate(rows.begin(), rows.end(), 0.0) / static_cast<double>(m.rows);
    const double factor = mean > 0 ? 1 / (mean * step.bias_correction2) : 0;
    for (size_t c = 0; c < m.cols; ++c) column_root_[m.column_at + c] = static_cast<float>(std::sqrt(columns[c] * factor));
  });
}

void FactoredMoments::adamw(size_t piece, const AdamStep& step, ConstFloats gradient, Floats weight, Floats first_moment) const {
  const Piece& p = pieces_[piece];
  const Extent& m = matrices_[p.matrix];
  const ConstFloats roots = ConstFloats(column_root_).subspan(m.column_at, m.cols);
  for (size_t r = 0; r < p.rows; ++r) {
    const auto row_of = [&](auto flat) { return flat.empty() ? flat : flat.subspan(r * m.cols, m.cols); };
    adamw_factored(step, row_of(gradient), std::sqrt(row_mean_[m.row_at + p.first_row + r]), roots, row_of(weight), row_of(first_moment));
  }
}

Floats FactoredMoments::rows(size_t first_matrix, size_t matrices) {
  const Extent& last = matrices_[first_matrix + matrices - 1];
  const size_t begin = matrices_[first_matrix].row_at;
  return Floats(row_mean_).subspan(begin, last.row_at + last.rows - begin);
}

Floats FactoredMoments::columns(size_t first_matrix, size_t matrices) {
  const Extent& last = matrices_[first_matrix + matrices - 1];
  const size_t begin = matrices_[first_matrix].column_at;
  return Floats(column_mean_).subspan(begin, last.column_at + last.cols - begin);
}

}  // namespace moiety::train
