// A named tensor whose bytes lie somewhere else: in a mapped file, or in memory about to be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "spec/element_type.h"

namespace moiety::format {

// Where bytes lie in the files of a model.
struct FilePlace {
  size_t file = 0;  // its number among them
  uint64_t offset = 0;
};

struct TensorView {
  std::string name;
  spec::ElementType type = spec::ElementType::F32;
  std::vector<int64_t> shape;  // outermost first, as PyTorch and safetensors have it
  // From the first element on. Rows (of the last dimension) follow one another, or lie row_stride bytes apart.
  std::span<const std::byte> bytes;
  size_t row_stride = 0;
  spec::Scales scales;  // of a matrix whose type keeps them apart

  int64_t elements() const {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
  }
};

// Throws Error(Input) naming two tensors of `file` whose bytes overlap.
void refuse_overlaps(const std::vector<TensorView>& tensors, const std::string& file);

// A tensor to be written: its elements are those of the parts, one after the other, each converted to `type`. Parts let a
// stack of experts, or a matrix with its rows in another order, be written without a copy of it in memory.
struct TensorSource {
  std::string name;
  spec::ElementType type = spec::ElementType::F32;
  std::vector<int64_t> shape;
  std::vector<TensorView> parts;
  // Or, instead of parts: pieces that are made when they are written.
  std::vector<std::function<std::vector<float>()>> made;

  TensorSource() = default;
  TensorSource(const TensorView& view) : name(view.name), type(view.type), shape(view.shape), parts{view} {}
  size_t elements() const {
    return static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>()));
  }
};

}  // namespace moiety::format
