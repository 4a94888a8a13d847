// What experts of several kinds are made of: products of their matrices with their rows, as flat lists of (expert, some rows of its
// matrix) that threads take from as they become free.
#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "model/expert_kind.h"

namespace moiety::model {

// Some experts and the rows of these alone, M of them, one after the other.
struct ExpertBatch {
  ExpertBatch(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND);

  const kernel::Compute& compute;
  std::vector<ExpertRows> blocks;
  std::vector<int> token_of_row_M;
  std::vector<float*> y_M;
  size_t y_stride;

  size_t rows() const { return token_of_row_M.size(); }
};

// Rows of a matrix that one task takes.
inline constexpr size_t kPieceRows = 128;
struct Piece {
  size_t first, rows;
};

// Every expert's matrix number `matrix` in pieces. The busiest experts come first: what is left at the end is small.
template <class Body>
void for_each_piece(const ExpertBatch& batch, size_t matrix, const Body& body) {
  std::vector<ExpertRows> busiest(batch.blocks.begin(), batch.blocks.end());
  std::ranges::stable_sort(busiest, std::greater(), &ExpertRows::count);
  std::vector<size_t> rows;
  for (const ExpertRows& block : busiest) rows.push_back(block.weights->matrices[matrix].rows);
  kernel::for_each_piece(batch.compute.threads, rows, kPieceRows,
                         [&](size_t b, size_t first, size_t count) { body(busiest[b], Piece{first, count}); });
}

// For each row the activations of its token, in the form that this matrix of its expert wants.
std::vector<const std::byte*> token_rows(const ExpertBatch& batch, size_t matrix, kernel::Activations& x_TD);

// Each row of activations within an expert, in the form that this matrix of it wants.
struct RoundedRows {
  RoundedRows(const ExpertBatch& batch, size_t matrix, MatrixView<const float> hidden_MF);
  Matrix<std::byte> bytes;
  std::vector<const std::byte*> rows;
};

// Shows the inputs of one of each expert's matrices to whom it interests.
void show_inputs(const ExpertBatch& batch, size_t matrix, std::span<const std::byte* const> rows);

// y = this matrix of its expert, and its bias if there is one, times each row.
void multiply_into_results(const ExpertBatch& batch, size_t matrix, std::span<const std::byte* const> rows);

}  // namespace moiety::model
