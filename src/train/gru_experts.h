// GRU experts with gradients (spec::ExpertKind::Gru): a state that advances over the tokens of a document that visit the expert, and
// back through time the same way.
#pragma once

#include <memory>
#include <span>

#include "base/matrix.h"
#include "train/batch.h"
#include "train/expert_kind.h"

namespace moiety::train {

// The stacked weights of a layer's GRU experts, or their gradients. Rows of reset, update and candidate follow one another.
template <class T>
struct GruStack {
  size_t num_experts = 0, width = 0, hidden = 0;
  T* input = nullptr;       // [E, 3 G, D]
  T* state = nullptr;       // [E, 3 G, G]
  T* output = nullptr;      // [E, D, G]
  T* input_bias = nullptr;  // [E, 3 G]
  T* state_bias = nullptr;  // [E, 3 G]

  MatrixView<T> input_3GD(size_t e) const { return {input + e * 3 * hidden * width, 3 * hidden, width}; }
  MatrixView<T> state_3GG(size_t e) const { return {state + e * 3 * hidden * hidden, 3 * hidden, hidden}; }
  MatrixView<T> output_DG(size_t e) const { return {output + e * width * hidden, width, hidden}; }
  std::span<T> input_bias_3G(size_t e) const { return {input_bias + e * 3 * hidden, 3 * hidden}; }
  std::span<T> state_bias_3G(size_t e) const { return {state_bias + e * 3 * hidden, 3 * hidden}; }
};

// A layer's experts from number `first` on. Products with inputs and outputs are computed in `type`, those with states, whose rounding
// would add up over a document, in f32. Keeps 5 G numbers of 4 bytes a visit. `segments` cover all tokens and are in their order.
std::shared_ptr<ExpertsOfKind> gru_experts(GemmType type, size_t first, const GruStack<const float>& value,
                                           const GruStack<float>& gradient, std::span<const Segment> segments);

}  // namespace moiety::train
