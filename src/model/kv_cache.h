// Keys and values of one sequence's tokens so far, for every layer.
#pragma once

#include <cassert>
#include <vector>

#include "base/matrix.h"
#include "spec/model_spec.h"

namespace moiety::model {

class KvCache {
 public:
  // Room for `capacity` tokens.
  KvCache(const spec::ModelSpec& spec, size_t capacity)
      : heads_(static_cast<size_t>(spec.attention.num_kv_heads)), capacity_(capacity) {
    const size_t head_dim = static_cast<size_t>(spec.attention.head_dim);
    for (int layer = 0; layer < spec.num_layers; ++layer) {
      keys_.emplace_back(heads_ * capacity, head_dim);
      values_.emplace_back(heads_ * capacity, head_dim);
    }
  }

  size_t capacity() const { return capacity_; }
  size_t length() const { return length_; }  // tokens that all layers have seen
  void advance(size_t tokens) {
    assert(length_ + tokens <= capacity_);
    length_ += tokens;
  }
  // Forgets all tokens from `length` on.
  void truncate(size_t length) { length_ = length < length_ ? length : length_; }

  // One head's rows, a position each: [capacity, head_dim].
  MatrixView<float> keys(int layer, size_t head) { return keys_[layer].view().middle_rows(head * capacity_, capacity_); }
  MatrixView<float> values(int layer, size_t head) {
    return values_[layer].view().middle_rows(head * capacity_, capacity_);
  }

 private:
  size_t heads_, capacity_, length_ = 0;
  std::vector<Matrix<float>> keys_, values_;  // [kv heads * capacity, head_dim] a layer
};

}  // namespace moiety::model
