#include "model/experts.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "model/elementwise.h"

namespace moiety::model {
namespace {

using kernel::Activations;
using kernel::Compute;
using kernel::Projection;

// Rows of a matrix that one task takes, and tokens that go through them at once: what they share stays in the second-level
// cache.
constexpr size_t kPieceRows = 128, kTokensAtOnce = 64;

// Some rows of a block's matrix.
struct Piece {
  size_t first, rows;
};

// Every block's matrix of `rows_of(block)` rows in pieces. The busiest blocks come first: what is left at the end is small.
template <class RowsOf, class Body>
void for_each_piece(const Compute& compute, std::span<const ExpertRows> blocks, RowsOf rows_of, const Body& body) {
  std::vector<ExpertRows> busiest(blocks.begin(), blocks.end());
  std::ranges::stable_sort(busiest, std::greater(), &ExpertRows::count);
  std::vector<size_t> rows;
  for (const ExpertRows& block : busiest) rows.push_back(rows_of(block));
  kernel::for_each_piece(compute.threads, rows, kPieceRows,
                         [&](size_t b, size_t first, size_t count) { body(busiest[b], Piece{first, count}); });
}

void pack_all(const Compute& compute, std::span<const ExpertRows> blocks) {
  std::vector<const Projection*> matrices;
  for (const ExpertRows& block : blocks) {
    matrices.insert(matrices.end(), {&block.weights->gate, &block.weights->up, &block.weights->down});
  }
  kernel::pack(compute, matrices);
}

// For each row the activations of its token, in the form that the matrix of its block wants.
std::vector<const std::byte*> inputs(const Compute& compute, std::span<const ExpertRows> blocks,
                                     std::span<const int> token_of_row_N, Projection FeedForwardWeights::* matrix,
                                     Activations& x_TD) {
  std::vector<const std::byte*> rows(token_of_row_N.size());
  for (const ExpertRows& block : blocks) {
    const auto x_T = x_TD.rows(compute, kernel::activations_for(compute, block.weights->*matrix));
    for (size_t n = block.first; n < block.first + block.count; ++n) rows[n] = x_T[static_cast<size_t>(token_of_row_N[n])];
  }
  return rows;
}

// Rows [piece.first, …) of gate and up, and what the activation makes of them, for all rows of the block.
void gate_and_up(const kernel::Kernels& kernels, spec::Activation activation, const ExpertRows& block, const Piece& piece,
                 std::span<const std::byte* const> gate_inputs, std::span<const std::byte* const> up_inputs,
                 MatrixView<float> hidden_NF) {
  const FeedForwardWeights& w = *block.weights;
  alignas(64) float up[kTokensAtOnce * kPieceRows];
  for (size_t begin = block.first, end = block.first + block.count; begin < end; begin += kTokensAtOnce) {
    const size_t count = std::min(kTokensAtOnce, end - begin);
    float* const gate = hidden_NF.row(begin).data() + piece.first;
    kernel::multiply(kernels, w.gate, piece.first, piece.rows, &gate_inputs[begin], count, gate, hidden_NF.stride());
    kernel::multiply(kernels, w.up, piece.first, piece.rows, &up_inputs[begin], count, up, kPieceRows);
    for (size_t i = 0; i < count; ++i) {
      const std::span<float> gate_row(gate + i * hidden_NF.stride(), piece.rows), up_row(up + i * kPieceRows, piece.rows);
      if (!w.gate_bias.empty()) {
        add(std::span(w.gate_bias).subspan(piece.first, piece.rows), gate_row);
        add(std::span(w.up_bias).subspan(piece.first, piece.rows), up_row);
      }
      kernels.activate(activation, gate_row.data(), up_row.data(), piece.rows);
    }
  }
}

// What goes down: each row of hidden activations in the form that its block's matrix wants.
struct HiddenRows {
  Matrix<std::byte> bytes;
  std::vector<const std::byte*> rows;

  HiddenRows(const Compute& compute, std::span<const ExpertRows> blocks, MatrixView<const float> hidden_NF)
      : rows(hidden_NF.rows()) {
    std::vector<const Projection*> down_of_row(rows.size());
    size_t row_bytes = 0;
    for (const ExpertRows& block : blocks) {
      const Projection& down = block.weights->down;
      std::fill_n(down_of_row.begin() + static_cast<std::ptrdiff_t>(block.first), block.count, &down);
      row_bytes = std::max(row_bytes, kernel::activation_row_bytes(kernel::activations_for(compute, down), down.cols));
    }
    bytes = Matrix<std::byte>::uninitialised(rows.size(), row_bytes);
    const auto round = [&](size_t n) {
      const size_t cols = down_of_row[n]->cols;
      compute.kernels.round_activations(kernel::activations_for(compute, *down_of_row[n]), hidden_NF.row(n).data(), 0, cols,
                                        cols, bytes.row(n).data());
      rows[n] = bytes.row(n).data();
    };
    constexpr size_t kFew = 16;  // rows that are done sooner than threads have met
    if (rows.size() > kFew) {
      compute.threads.parallel_for(rows.size(), round);
    } else {
      for (size_t n = 0; n < rows.size(); ++n) round(n);
    }
  }
};

// The inputs of one of each block's matrices, to whom it interests.
void show_inputs(const Compute& compute, std::span<const ExpertRows> blocks, Projection FeedForwardWeights::* matrix,
                 std::span<const std::byte* const> rows) {
  for (const ExpertRows& block : blocks) {
    kernel::show_inputs(compute, block.weights->*matrix, rows.subspan(block.first, block.count));
  }
}

}  // namespace

void run_experts(const Compute& compute, spec::Activation activation, std::span<const ExpertRows> of_all,
                 std::span<const int> token_of_row_N, Activations& x_TD, MatrixView<float> y_ND) {
  // The rows of these blocks alone, one after the other
  std::vector<ExpertRows> blocks;
  std::vector<int> token_of_row_M;
  std::vector<float*> y_M;
  size_t widest = 0;
  for (const ExpertRows& block : of_all) {
    blocks.push_back({block.weights, token_of_row_M.size(), block.count});
    for (size_t n = block.first; n < block.first + block.count; ++n) {
      token_of_row_M.push_back(token_of_row_N[n]);
      y_M.push_back(y_ND.row(n).data());
    }
    widest = std::max(widest, block.weights->gate.rows);
  }
  pack_all(compute, blocks);

  // Gate and up
  const auto gate_inputs = inputs(compute, blocks, token_of_row_M, &FeedForwardWeights::gate, x_TD);
  const auto up_inputs = inputs(compute, blocks, token_of_row_M, &FeedForwardWeights::up, x_TD);
  show_inputs(compute, blocks, &FeedForwardWeights::gate, gate_inputs);
  show_inputs(compute, blocks, &FeedForwardWeights::up, up_inputs);
  auto hidden_MF = Matrix<float>::uninitialised(token_of_row_M.size(), widest);
  for_each_piece(compute, blocks, [](const ExpertRows& b) { return b.weights->gate.rows; },
                 [&](const ExpertRows& block, const Piece& piece) {
                   gate_and_up(compute.kernels, activation, block, piece, gate_inputs, up_inputs, hidden_MF.view());
                 });

  // Down
  const HiddenRows hidden(compute, blocks, std::as_const(hidden_MF).view());
  show_inputs(compute, blocks, &FeedForwardWeights::down, hidden.rows);
  for_each_piece(compute, blocks, [](const ExpertRows& b) { return b.weights->down.rows; },
                 [&](const ExpertRows& block, const Piece& piece) {
                   const FeedForwardWeights& w = *block.weights;
                   kernel::multiply(compute.kernels, w.down, piece.first, piece.rows, &hidden.rows[block.first], block.count,
                                    y_M[block.first] + piece.first, y_ND.stride());
                   if (w.down_bias.empty()) return;
                   for (size_t m = block.first; m < block.first + block.count; ++m) {
                     add(std::span(w.down_bias).subspan(piece.first, piece.rows), {y_M[m] + piece.first, piece.rows});
                   }
                 });
}

Matrix<float> feed_forward(const Compute& compute, const FeedForwardWeights& weights, MatrixView<const float> x_TD) {
  std::vector<int> all(x_TD.rows());
  std::iota(all.begin(), all.end(), 0);
  Activations x(x_TD);
  const ExpertRows block{&weights, 0, all.size()};
  auto y_TD = Matrix<float>::uninitialised(x_TD.rows(), x_TD.cols());
  run_experts(compute, spec::Activation::SwiGlu, {&block, 1}, all, x, y_TD.view());
  return y_TD;
}

}  // namespace moiety::model
