// spec::ExpertKind::Gru at inference.
#include <cmath>
#include <utility>

#include "model/elementwise.h"
#include "model/expert_products.h"

namespace moiety::model {
namespace {

// As spec::info(ExpertKind::Gru) orders them; rows of reset, update and candidate follow one another.
enum : size_t { kInput, kState, kOutput };

// Rows of an expert that are one sequence's: its state goes from each to the next.
struct Run {
  const ExpertWeights* weights;
  const StepPart* part;
  size_t first, count;
};

std::vector<Run> runs_of(const ExpertBatch& batch, std::span<const StepPart> parts) {
  std::vector<Run> runs;
  for (const ExpertRows& block : batch.blocks) {
    auto part = parts.begin();
    for (size_t m = block.first; m < block.first + block.count; ++m) {
      const size_t token = static_cast<size_t>(batch.token_of_row_M[m]);
      const bool goes_on = m > block.first && token < part->first_token + part->tokens;
      while (token >= part->first_token + part->tokens) ++part;
      if (!goes_on) runs.push_back({block.weights, &*part, m, 0});
      ++runs.back().count;
    }
  }
  return runs;
}

void next_state(const ExpertWeights& w, std::span<const float> in, std::span<const float> back, std::span<float> state) {
  const size_t hidden = state.size();
  for (size_t g = 0; g < hidden; ++g) {
    const auto from_input = [&](size_t i) { return in[i] + w.biases[kInput][i]; };
    const auto from_state = [&](size_t i) { return back[i] + w.biases[kState][i]; };
    const size_t u = hidden + g, c = 2 * hidden + g;
    const float reset = sigmoid(from_input(g) + from_state(g)), update = sigmoid(from_input(u) + from_state(u));
    const float candidate = std::tanh(from_input(c) + reset * from_state(c));
    state[g] = (1 - update) * candidate + update * state[g];
  }
}

// Advances from visit to visit; what a visit leaves holds up to the next one, or to the end of the part.
void advance(const ExpertBatch& batch, const ExpertStates& states, const Run& run, MatrixView<const float> in_M3G,
             MatrixView<float> hidden_MG) {
  const auto& [w, whole, first, count] = run;
  const StepPart* const part = whole;
  const kernel::Projection& state_3GG = w->matrices[kState];
  const size_t hidden = hidden_MG.cols(), at = static_cast<size_t>(w->number) * hidden;
  const auto form = kernel::activations_for(batch.compute, state_3GG);
  Matrix<float> state(1, hidden), back(1, 3 * hidden);
  Matrix<std::byte> rounded(1, kernel::activation_row_bytes(form, hidden));
  const std::byte* const row = rounded.row(0).data();
  states.before(*part, at, state.flat());
  const auto position_of = [&](size_t m) { return part->first_position + static_cast<size_t>(batch.token_of_row_M[m]) - part->first_token; };
  for (size_t m = first; m < first + count; ++m) {
    batch.compute.kernels.round_activations(form, state.row(0).data(), 0, hidden, hidden, rounded.row(0).data());
    kernel::multiply(batch.compute.kernels, state_3GG, 0, 3 * hidden, &row, 1, back.row(0).data(), 3 * hidden);
    next_state(*w, in_M3G.row(m), back.row(0), state.row(0));
    std::ranges::copy(state.flat(), hidden_MG.row(m).begin());
    const size_t end = m + 1 < first + count ? position_of(m + 1) : part->first_position + part->tokens;
    states.put(*part, at, position_of(m), end, state.flat());
  }
}

}  // namespace

void run_grus(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND) {
  const ExpertBatch batch(inputs, experts, y_ND);
  const auto x_M = token_rows(batch, kInput, inputs.x_TD);
  show_inputs(batch, kInput, x_M);
  const size_t hidden = batch.blocks.front().weights->matrices[kState].cols;
  auto in_M3G = Matrix<float>::uninitialised(batch.rows(), 3 * hidden), hidden_MG = Matrix<float>::uninitialised(batch.rows(), hidden);
  for_each_piece(batch, kInput, [&](const ExpertRows& block, const Piece& piece) {
    kernel::multiply(batch.compute.kernels, block.weights->matrices[kInput], piece.first, piece.rows, &x_M[block.first], block.count,
                     in_M3G.row(block.first).data() + piece.first, 3 * hidden);
  });
  const std::vector<Run> runs = runs_of(batch, inputs.states->parts());
  batch.compute.threads.parallel_for(runs.size(), [&](size_t r) {
    advance(batch, *inputs.states, runs[r], std::as_const(in_M3G).view(), hidden_MG.view());
  });
  const RoundedRows outputs(batch, kOutput, std::as_const(hidden_MG).view());
  multiply_into_results(batch, kOutput, outputs.rows);
}

}  // namespace moiety::model
