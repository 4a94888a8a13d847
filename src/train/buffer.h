// Memory for results that are about to be written as a whole: like a Matrix, but nobody fills it with zeros first.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "base/matrix.h"

namespace moiety::train {

class Buffer {
 public:
  Buffer() = default;
  // Rows lie `stride` floats apart, at least `cols`.
  Buffer(size_t rows, size_t cols, size_t stride) : rows_(rows), cols_(cols), stride_(stride) {
    const size_t bytes = (rows * stride * sizeof(float) + 63) / 64 * 64;
    if (bytes == 0) return;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Buffer(size_t rows, size_t cols) : Buffer(rows, cols, cols) {}

  MatrixView<float> view() { return {data_.get(), rows_, cols_, stride_}; }
  MatrixView<const float> view() const { return {data_.get(), rows_, cols_, stride_}; }
  std::span<float> row(size_t r) { return view().row(r); }
  std::span<const float> row(size_t r) const { return view().row(r); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

}  // namespace moiety::train
