// spec::ExpertKind::FeedForward at inference; ternary ones are these with weights that were rounded when the file was opened.
#include <algorithm>
#include <utility>

#include "model/elementwise.h"
#include "model/expert_products.h"

namespace moiety::model {
namespace {

// As spec::info(ExpertKind::FeedForward) orders them.
enum : size_t { kGate, kUp, kDown };

// Tokens that go through some rows of a matrix at once: what they share stays in the second-level cache.
constexpr size_t kTokensAtOnce = 64;

// Rows [piece.first, …) of gate and up, and what the activation makes of them, for all rows of the block.
void gate_and_up(const kernel::Kernels& kernels, spec::Activation activation, const ExpertRows& block, const Piece& piece,
                 std::span<const std::byte* const> gate_inputs, std::span<const std::byte* const> up_inputs,
                 MatrixView<float> hidden_MF) {
  const ExpertWeights& w = *block.weights;
  const std::vector<float>&gate_bias = w.biases[kGate], &up_bias = w.biases[kUp];
  alignas(64) float up[kTokensAtOnce * kPieceRows];
  for (size_t begin = block.first, end = block.first + block.count; begin < end; begin += kTokensAtOnce) {
    const size_t count = std::min(kTokensAtOnce, end - begin);
    float* const gate = hidden_MF.row(begin).data() + piece.first;
    kernel::multiply(kernels, w.matrices[kGate], piece.first, piece.rows, &gate_inputs[begin], count, gate, hidden_MF.stride());
    kernel::multiply(kernels, w.matrices[kUp], piece.first, piece.rows, &up_inputs[begin], count, up, kPieceRows);
    for (size_t i = 0; i < count; ++i) {
      const std::span<float> gate_row(gate + i * hidden_MF.stride(), piece.rows), up_row(up + i * kPieceRows, piece.rows);
      if (!gate_bias.empty()) {
        add(std::span(gate_bias).subspan(piece.first, piece.rows), gate_row);
        add(std::span(up_bias).subspan(piece.first, piece.rows), up_row);
      }
      kernels.activate(activation, gate_row.data(), up_row.data(), piece.rows);
    }
  }
}

}  // namespace

void run_feed_forwards(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND) {
  const ExpertBatch batch(inputs, experts, y_ND);
  const auto gate_inputs = token_rows(batch, kGate, inputs.x_TD), up_inputs = token_rows(batch, kUp, inputs.x_TD);
  show_inputs(batch, kGate, gate_inputs);
  show_inputs(batch, kUp, up_inputs);
  size_t widest = 0;
  for (const ExpertRows& block : batch.blocks) widest = std::max(widest, block.weights->matrices[kGate].rows);
  auto hidden_MF = Matrix<float>::uninitialised(batch.rows(), widest);
  for_each_piece(batch, kGate, [&](const ExpertRows& block, const Piece& piece) {
    gate_and_up(batch.compute.kernels, inputs.activation, block, piece, gate_inputs, up_inputs, hidden_MF.view());
  });
  const RoundedRows hidden(batch, kDown, std::as_const(hidden_MF).view());
  multiply_into_results(batch, kDown, hidden.rows);
}

}  // namespace moiety::model
