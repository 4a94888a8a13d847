// Second moments of matrices by row and column (Shazeer and Stern 2018, "Adafactor"): that of an element is row * column / mean of the
// rows, so that R + C numbers stand for R C. A stack of experts is as many matrices.
#pragma once

#include <span>
#include <vector>

#include "base/matrix.h"
#include "train/loops.h"

namespace moiety::train {

class FactoredMoments {
 public:
  // A new matrix; returns its number.
  size_t add(size_t rows, size_t cols);

  // Some whole rows of a matrix that one thread works on; returns their number. All pieces of a matrix are added in the order of its rows.
  size_t add_piece(size_t matrix, size_t first_row, size_t rows);

  // A step is three calls: for each piece, once, for each piece. The order of calls for pieces doesn't matter.
  // Takes in the squares of a piece's gradient; returns their sum.
  double measure(size_t piece, ConstFloats gradient);
  // Moves all moments on.
  void move_on(const AdamStep& step);
  // `first_moment` may be empty.
  void adamw(size_t piece, const AdamStep& step, ConstFloats gradient, Floats weight, Floats first_moment) const;

  // Of `matrices` that were added one after the other: means of squares, by row and by column.
  Floats rows(size_t first_matrix, size_t matrices);
  Floats columns(size_t first_matrix, size_t matrices);
  size_t bytes() const { return (row_mean_.size() + column_mean_.size()) * sizeof(float); }

 private:
  struct Extent {
    size_t rows, cols, row_at, column_at;  // in the flat vectors
    size_t first_piece, pieces;
  };
  struct Piece {
    size_t matrix, first_row, rows, at;  // its sums by column, in column_sums_
  };

  std::vector<Extent> matrices_;
  std::vector<Piece> pieces_;
  std::vector<float> row_mean_, column_mean_;              // what is remembered
  std::vector<float> row_sums_, column_sums_, column_root_;  // of one step; column_sums_ for each piece
};

}  // namespace moiety::train
