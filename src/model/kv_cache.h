// Keys and values of one sequence's tokens so far, for every layer.
#pragma once

#include <cassert>
#include <vector>

#include "base/matrix.h"
#include "spec/model_spec.h"

namespace moiety::model {

// What a layer keeps: keys and values of each key-value head, or, of latent attention, one vector for all heads, whose
// beginning is also its value.
class KvCache {
 public:
  // Room for `capacity` tokens.
  KvCache(const spec::ModelSpec& spec, size_t capacity) : capacity_(capacity) {
    const spec::AttentionSpec& a = spec.attention;
    if (a.latent) {
      heads_ = 1;
      value_dim_ = static_cast<size_t>(a.latent->kv_rank);
      key_dim_ = value_dim_ + static_cast<size_t>(a.latent->rope_dim);
    } else {
      heads_ = static_cast<size_t>(a.num_kv_heads);
      key_dim_ = value_dim_ = static_cast<size_t>(a.head_dim);
    }
    for (int layer = 0; layer < spec.num_layers; ++layer) {
      keys_.emplace_back(heads_ * capacity, key_dim_);
      if (!a.latent) values_.emplace_back(heads_ * capacity, value_dim_);
    }
  }

  size_t heads() const { return heads_; }
  size_t value_dim() const { return value_dim_; }
  size_t capacity() const { return capacity_; }
  size_t length() const { return length_; }  // tokens that all layers have seen
  void advance(size_t tokens) {
    assert(length_ + tokens <= capacity_);
    length_ += tokens;
  }
  // Forgets all tokens from `length` on.
  void truncate(size_t length) { length_ = length < length_ ? length : length_; }

  // One head's rows, a position each: [capacity, key dim] and [capacity, value dim].
  MatrixView<float> keys(int layer, size_t head) { return keys_[layer].view().middle_rows(head * capacity_, capacity_); }
  MatrixView<float> values(int layer, size_t head) {
    if (values_.empty()) return keys(layer, head).middle_cols(0, value_dim_);
    return values_[layer].view().middle_rows(head * capacity_, capacity_);
  }

 private:
  size_t heads_ = 0, key_dim_ = 0, value_dim_ = 0, capacity_, length_ = 0;
  std::vector<Matrix<float>> keys_, values_;  // [heads * capacity, dim] a layer
};

}  // namespace moiety::model
