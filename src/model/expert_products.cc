#include "model/expert_products.h"

#include "model/elementwise.h"

namespace moiety::model {

using kernel::Compute;
using kernel::Projection;

ExpertBatch::ExpertBatch(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND)
    : compute(inputs.compute), y_stride(y_ND.stride()) {
  std::vector<const Projection*> matrices;
  for (const ExpertRows& block : experts) {
    blocks.push_back({block.weights, token_of_row_M.size(), block.count});
    for (size_t n = block.first; n < block.first + block.count; ++n) {
      token_of_row_M.push_back(inputs.token_of_row_N[n]);
      y_M.push_back(y_ND.row(n).data());
    }
    for (const Projection& matrix : block.weights->matrices) matrices.push_back(&matrix);
  }
  kernel::pack(compute, matrices);
}

std::vector<const std::byte*> token_rows(const ExpertBatch& batch, size_t matrix, kernel::Activations& x_TD) {
  std::vector<const std::byte*> rows(batch.rows());
  for (const ExpertRows& block : batch.blocks) {
    const auto x_T = x_TD.rows(batch.compute, kernel::activations_for(batch.compute, block.weights->matrices[matrix]));
    for (size_t m = block.first; m < block.first + block.count; ++m) rows[m] = x_T[static_cast<size_t>(batch.token_of_row_M[m])];
  }
  return rows;
}

RoundedRows::RoundedRows(const ExpertBatch& batch, size_t matrix, MatrixView<const float> hidden_MF) : rows(hidden_MF.rows()) {
  const Compute& compute = batch.compute;
  std::vector<const Projection*> matrix_of_row(rows.size());
  size_t row_bytes = 0;
  for (const ExpertRows& block : batch.blocks) {
    const Projection& w = block.weights->matrices[matrix];
    std::fill_n(matrix_of_row.begin() + static_cast<std::ptrdiff_t>(block.first), block.count, &w);
    row_bytes = std::max(row_bytes, kernel::activation_row_bytes(kernel::activations_for(compute, w), w.cols));
  }
  bytes = Matrix<std::byte>::uninitialised(rows.size(), row_bytes);
  const auto round = [&](size_t m) {
    const size_t cols = matrix_of_row[m]->cols;
    compute.kernels.round_activations(kernel::activations_for(compute, *matrix_of_row[m]), hidden_MF.row(m).data(), 0, cols, cols,
                                      bytes.row(m).data());
    rows[m] = bytes.row(m).data();
  };
  constexpr size_t kFew = 16;  // rows that are done sooner than threads have met
  if (rows.size() > kFew) {
    compute.threads.parallel_for(rows.size(), round);
  } else {
    for (size_t m = 0; m < rows.size(); ++m) round(m);
  }
}

void show_inputs(const ExpertBatch& batch, size_t matrix, std::span<const std::byte* const> rows) {
  for (const ExpertRows& block : batch.blocks) {
    kernel::show_inputs(batch.compute, block.weights->matrices[matrix], rows.subspan(block.first, block.count));
  }
}

void multiply_into_results(const ExpertBatch& batch, size_t matrix, std::span<const std::byte* const> rows) {
  show_inputs(batch, matrix, rows);
  for_each_piece(batch, matrix, [&](const ExpertRows& block, const Piece& piece) {
    const std::vector<float>& bias = block.weights->biases[matrix];
    kernel::multiply(batch.compute.kernels, block.weights->matrices[matrix], piece.first, piece.rows, &rows[block.first], block.count,
                     batch.y_M[block.first] + piece.first, batch.y_stride);
    if (bias.empty()) return;
    for (size_t m = block.first; m < block.first + block.count; ++m) {
      add(std::span(bias).subspan(piece.first, piece.rows), {batch.y_M[m] + piece.first, piece.rows});
    }
  });
}

}  // namespace moiety::model
