// What the weight matrices of a model are multiplied with: sums of squares by column, an expert apart from the others.
#pragma once

#include <unordered_map>

#include "format/importance.h"
#include "format/model_file.h"
#include "kernel/linear.h"

namespace moiety::model {

class InputStatistics {
 public:
  // Of the matrices that a GGUF file of the model has as they are; `file` must outlive it. The up-projections of latent
  // attention, which are multiplied head by head, are not among them.
  explicit InputStatistics(const format::ModelFile& file);

  // For kernel::Compute::inputs; lives as long as this.
  const kernel::InputObserver* observer() const { return &observer_; }
  const format::Importance& importance() const { return importance_; }

 private:
  // A matrix of the tensor that it is written to.
  struct Place {
    format::InputSums* sums;
    size_t matrix;
  };
  void add(const kernel::WeightView& w_NK, std::span<const float* const> x_TK);

  format::Importance importance_;
  std::unordered_map<const std::byte*, Place> places_;  // by where the matrix lies in the file
  kernel::InputObserver observer_;
};

}  // namespace moiety::model
