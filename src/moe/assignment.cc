#include "moe/assignment.h"

#include <limits>

namespace moiety::moe {
namespace {

constexpr size_t kNobody = SIZE_MAX;

// Rows are matched one after the other. Each one's price makes its pairs' reduced costs, -worth - row price - column price, zero on what
// is matched and not negative elsewhere, so that any complete matching along zeros is a best one.
class Matching {
 public:
  explicit Matching(MatrixView<const float> worth)
      : worth_(worth), row_price_(worth.rows()), column_price_(worth.rows()), row_of_column_(worth.rows(), kNobody) {}

  // Finds the shortest way from the row to a free column, over columns that are given up by their rows, and goes it.
  void match(size_t row) {
    const size_t n = worth_.rows();
    std::vector<double> distance(n, std::numeric_limits<double>::infinity());
    std::vector<size_t> before(n, kNobody);  // the column that the way to this one comes from
    std::vector<bool> done(n, false);
    size_t at_row = row, at_column = kNobody;
    for (;;) {
      const double so_far = at_column == kNobody ? 0 : distance[at_column];
      size_t nearest = kNobody;
      for (size_t c = 0; c < n; ++c) {
        if (done[c]) continue;
        const double here = so_far + reduced_cost(at_row, c);
        if (here < distance[c]) distance[c] = here, before[c] = at_column;
        if (nearest == kNobody || distance[c] < distance[nearest]) nearest = c;
      }
      at_column = nearest;
      done[at_column] = true;
      if (row_of_column_[at_column] == kNobody) break;
      at_row = row_of_column_[at_column];
    }

    // Prices, so that the way lies along zeros
    const double length = distance[at_column];
    row_price_[row] += length;
    for (size_t c = 0; c < n; ++c) {
      if (!done[c] || c == at_column) continue;
      column_price_[c] -= length - distance[c];
      row_price_[row_of_column_[c]] += length - distance[c];
    }

    // Each column on the way gets the row of the one before
    for (; before[at_column] != kNobody; at_column = before[at_column]) row_of_column_[at_column] = row_of_column_[before[at_column]];
    row_of_column_[at_column] = row;
  }

  std::vector<int32_t> column_of_row() const {
    std::vector<int32_t> columns(row_of_column_.size());
    for (size_t c = 0; c < columns.size(); ++c) columns[row_of_column_[c]] = static_cast<int32_t>(c);
    return columns;
  }

 private:
  double reduced_cost(size_t row, size_t column) const {
    return -double{worth_.row(row)[column]} - row_price_[row] - column_price_[column];
  }

  MatrixView<const float> worth_;
  std::vector<double> row_price_, column_price_;
  std::vector<size_t> row_of_column_;
};

}  // namespace

std::vector<int32_t> best_assignment(MatrixView<const float> worth) {
  Matching matching(worth);
  for (size_t row = 0; row < worth.rows(); ++row) matching.match(row);
  return matching.column_of_row();
}

}  // namespace moiety::moe
