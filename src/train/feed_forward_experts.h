// Feed-forward experts with gradients: rows gathered by expert, three matrix products each.
#pragma once

#include <memory>

#include "base/matrix.h"
#include "train/expert_kind.h"

namespace moiety::train {

// The stacked weights of a layer's feed-forward experts, or their gradients.
template <class T>
struct ExpertStack {
  size_t num_experts = 0, width = 0, hidden = 0;
  T* gate = nullptr;  // [E, F, D]
  T* up = nullptr;    // [E, F, D]
  T* down = nullptr;  // [E, D, F]

  MatrixView<T> gate_FD(size_t e) const { return {gate + e * hidden * width, hidden, width}; }
  MatrixView<T> up_FD(size_t e) const { return {up + e * hidden * width, hidden, width}; }
  MatrixView<T> down_DF(size_t e) const { return {down + e * width * hidden, width, hidden}; }
};

// The same weights packed, of the first expert; empty if they are not.
struct PackedExperts {
  PackedMatrix gate, up, down;
};

struct ExpertWeights {
  ExpertStack<const float> value;
  ExpertStack<float> gradient;
  PackedExperts packed = {};
  std::shared_ptr<const void> memory = nullptr;  // of values that are made for the occasion
};

// The values of ternary experts (Wang et al. 2025, "MoTE"), each matrix with a scale of its own; gradients go straight through the
// rounding to what is rounded (Bengio et al. 2013).
ExpertWeights ternary(const ExpertWeights& latent);

// A layer's first value.num_experts.
std::shared_ptr<ExpertsOfKind> feed_forward_experts(const Mode& mode, const ExpertWeights& weights);

}  // namespace moiety::train
