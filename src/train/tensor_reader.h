// The numbers of a tensor that is about to be written, from first to last, wherever they come from.
#pragma once

#include <algorithm>
#include <cassert>
#include <span>
#include <vector>

#include "format/tensor.h"

namespace moiety::train {

class TensorReader {
 public:
  // Of an f32 tensor, which must outlive this.
  explicit TensorReader(const format::TensorSource& tensor) : tensor_(tensor) {}

  // Those at `at`, which is not before what was read last.
  void read(size_t at, std::span<float> to) {
    for (; at_ < at || !to.empty();) {
      if (rest_.empty()) next_piece();
      const size_t skipped = std::min(at - std::min(at, at_), rest_.size());
      rest_ = rest_.subspan(skipped);
      at_ += skipped;
      if (at_ < at) continue;
      const size_t count = std::min(rest_.size(), to.size());
      std::ranges::copy(rest_.first(count), to.begin());
      rest_ = rest_.subspan(count);
      to = to.subspan(count);
      at = at_ += count;
    }
  }

 private:
  void next_piece() {
    if (part_ < tensor_.parts.size()) {
      const auto bytes = tensor_.parts[part_++].bytes;
      rest_ = {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
    } else {
      assert(made_ < tensor_.made.size());
      piece_ = tensor_.made[made_++]();
      rest_ = piece_;
    }
  }

  const format::TensorSource& tensor_;
  size_t part_ = 0, made_ = 0, at_ = 0;
  std::vector<float> piece_;
  std::span<const float> rest_;
};

}  // namespace moiety::train
