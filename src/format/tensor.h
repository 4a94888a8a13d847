// A named tensor whose bytes lie somewhere else: in a mapped file, or in memory about to be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "spec/element_type.h"

namespace moiety::format {

struct TensorView {
  std::string name;
  spec::ElementType type = spec::ElementType::F32;
  std::vector<int64_t> shape;  // outermost first, as PyTorch and safetensors have it
  std::span<const std::byte> bytes;

  int64_t elements() const {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
  }
};

}  // namespace moiety::format
