// Row-major matrices: MatrixView looks, Matrix owns (64-byte aligned, so that SIMD rows start on a cache line).
#pragma once

#include <cassert>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "base/block_memory.h"

namespace moiety {

template <class T>
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(T* data, size_t rows, size_t cols) : MatrixView(data, rows, cols, cols) {}
  MatrixView(T* data, size_t rows, size_t cols, size_t stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  // A view to read is made from a view to write.
  operator MatrixView<const T>() const { return {data_, rows_, cols_, stride_}; }

  T* data() const { return data_; }
  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }
  size_t stride() const { return stride_; }

  std::span<T> row(size_t r) const {
    assert(r < rows_);
    return {data_ + r * stride_, cols_};
  }
  MatrixView middle_rows(size_t first, size_t count) const {
    assert(first + count <= rows_);
    return {data_ + first * stride_, count, cols_, stride_};
  }
  MatrixView middle_cols(size_t first, size_t count) const {
    assert(first + count <= cols_);
    return {data_ + first, rows_, count, stride_};
  }
  // All elements as one span; the rows must follow each other without a gap.
  std::span<T> flat() const {
    assert(stride_ == cols_);
    return {data_, rows_ * cols_};
  }

 private:
  T* data_ = nullptr;
  size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

template <class T>
class Matrix {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Matrix() = default;
  // Elements start out as zero.
  Matrix(size_t rows, size_t cols) : Matrix(uninitialised(rows, cols)) {
    std::uninitialized_value_construct_n(data_.get(), rows * cols);
  }
  // Elements start out as anything: for what is written whole before it is read.
  static Matrix uninitialised(size_t rows, size_t cols) {
    Matrix matrix;
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    const size_t bytes = (rows * cols * sizeof(T) + 63) / 64 * 64;
    if (bytes == 0) return matrix;
    matrix.data_.reset(static_cast<T*>(allocate_block(bytes)));
    return matrix;
  }

  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }
  MatrixView<T> view() { return {data_.get(), rows_, cols_}; }
  MatrixView<const T> view() const { return {data_.get(), rows_, cols_}; }
  std::span<T> row(size_t r) { return view().row(r); }
  std::span<const T> row(size_t r) const { return view().row(r); }
  std::span<T> flat() { return view().flat(); }
  std::span<const T> flat() const { return view().flat(); }

 private:
  struct Free {
    void operator()(T* p) const { release_block(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t rows_ = 0, cols_ = 0;
};

}  // namespace moiety
