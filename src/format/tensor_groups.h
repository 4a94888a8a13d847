// A list of tensors as people want to read it: those that differ only in the numbers within their names as one line.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "format/tensor.h"

namespace moiety::format {

struct TensorGroup {
  std::string name;  // "blk.[0-31].attn_q.weight"; of a single tensor its own
  spec::ElementType type = spec::ElementType::F32;
  std::vector<int64_t> shape;
  size_t count = 0;
  size_t bytes = 0;  // of all
};

// In the order in which their first tensors come. Tensors of one group have one type and one shape.
std::vector<TensorGroup> group_tensors(const std::vector<TensorView>& tensors);

// "4096 x 14336".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace moiety::format
