// Operands of experts' products, laid out by one thread in memory of its own. `X` is what products are computed in: float, or
// Bf16. Numbers that are X already are only moved; f32 is rounded on the way where X is Bf16.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "base/matrix.h"
#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"
#include "train/scratch.h"

namespace moiety::train {

template <class X>
inline constexpr GemmType kGemmType = std::is_same_v<X, float> ? GemmType::F32 : GemmType::Bf16;

// One operand of products: rows as the kernel wants them.
struct Rows {
  std::vector<const std::byte*> at;
  size_t steps = 0;
};

template <class X>
using RowPointers = std::vector<const X*>;

template <class X>
RowPointers<X> row_pointers(MatrixView<const X> x) {
  RowPointers<X> rows(x.rows());
  for (size_t r = 0; r < x.rows(); ++r) rows[r] = x.data() + r * x.stride();
  return rows;
}

// Rows of X that products can read, and that do not lie a power of two apart, where they would share few sets of the cache.
template <class X>
MatrixView<X> operand_rows(size_t rows, size_t cols, X* memory) {
  constexpr size_t kLine = 64 / sizeof(X);
  const MatrixView<X> x(memory, rows, cols, (cols + kLine - 1) / kLine * kLine + kLine);
  if (kGemmType<X> == GemmType::Bf16 && cols % 2 != 0) {
    for (size_t r = 0; r < rows; ++r) memory[r * x.stride() + cols] = 0;  // the second of the last pair
  }
  return x;
}
template <class X>
size_t operand_size(size_t rows, size_t cols) {
  return operand_rows<X>(0, cols, nullptr).stride() * rows;
}

// All of x as X, on all threads: where it is, or rounded into `memory`.
template <class X>
MatrixView<const X> as_operand(MatrixView<const float> x, Scratch& memory) {
  if constexpr (kGemmType<X> == GemmType::F32) {
    return x;
  } else {
    const MatrixView<X> rounded = operand_rows(x.rows(), x.cols(), memory.get<X>(operand_size<X>(x.rows(), x.cols())));
    parallel_ranges(x.rows(), [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) round(x.row(r), rounded.row(r));
    });
    return rounded;
  }
}

template <class X>
class Operands {
 public:
  // Read where they are; they must be as operand_rows() or any rows of floats are.
  Rows rows(const RowPointers<X>& x, size_t depth) const {
    Rows rows{{}, kernel::gemm_steps(kType, depth)};
    rows.at.reserve(x.size());
    for (const X* row : x) rows.at.push_back(reinterpret_cast<const std::byte*>(row));
    return rows;
  }
  Rows rows(MatrixView<const X> x) const { return rows(row_pointers<X>(x), x.cols()); }
  // The columns of x.
  Rows turned(const RowPointers<X>& x, size_t cols, Scratch& memory) const {
    Rows rows{std::vector<const std::byte*>(cols), kernel::gemm_steps(kType, x.size())};
    const size_t bytes = kernel::gemm_row_bytes(kType, x.size());
    std::byte* const out = memory.get(cols * bytes);
    if constexpr (kType == GemmType::F32) gemm_.turn_columns(kType, x.data(), x.size(), 0, cols, out, bytes);
    else gemm_.turn_rounded_columns(x.data(), x.size(), 0, cols, out, bytes);
    for (size_t c = 0; c < cols; ++c) rows.at[c] = out + c * bytes;
    return rows;
  }
  Rows turned(MatrixView<const X> x, Scratch& memory) const { return turned(row_pointers<X>(x), x.cols(), memory); }

  // For a * x.
  GemmStrips strips(const RowPointers<X>& x, size_t cols, Scratch& memory) const {
    const size_t stride = kernel::gemm_strip_bytes(kType, x.size());
    std::byte* const out = memory.get(kernel::gemm_strips_bytes(kType, cols, x.size()));
    if constexpr (kType == GemmType::F32) gemm_.strips_of_columns(kType, x.data(), x.size(), 0, cols, out, stride, kernel::GemmTo::Cache);
    else gemm_.strips_of_rounded_columns(x.data(), x.size(), 0, cols, out, stride);
    return {out, stride};
  }
  GemmStrips strips(MatrixView<const X> x, Scratch& memory) const { return strips(row_pointers<X>(x), x.cols(), memory); }

  // `next` comes from memory meanwhile.
  void multiply(const Rows& a, const GemmStrips& strips, MatrixView<float> c, Into into, const kernel::GemmAhead& next) const {
    gemm_.multiply(kType, a.at.data(), a.at.size(), strips, c.cols(), a.steps, c.data(), c.stride(), into == Into::Add, next);
  }

 private:
  static constexpr GemmType kType = kGemmType<X>;

  const kernel::GemmKernels& gemm_ = gemm_kernels();
};

// A weight of which products take some rows or some columns at a time: packed, or laid out when they are taken. What is asked for
// beyond the end is left out.
template <class X>
class WeightOperand {
 public:
  WeightOperand(MatrixView<const float> values, const PackedMatrix& packed)
      : values_(values), packed_(kType == GemmType::Bf16 ? packed : PackedMatrix{}) {}

  // For a * W transposed, of rows; and for a * W, of columns.
  GemmStrips by_rows(size_t first, size_t count, Scratch& memory) const {
    if (packed_) return packed_.by_rows(first);
    const MatrixView<const float> rows = values_.middle_rows(first, count);
    std::byte* const out = memory.get(kernel::gemm_strips_bytes(kType, count, rows.cols()));
    gemm_kernels().strips_of_rows(kType, row_pointers<float>(rows).data(), count, rows.cols(), out, kernel::GemmTo::Cache);
    return {out, kernel::gemm_strip_bytes(kType, rows.cols())};
  }
  GemmStrips by_columns(size_t first, size_t count, Scratch& memory) const {
    if (packed_) return packed_.by_columns(first);
    const size_t depth = values_.rows(), stride = kernel::gemm_strip_bytes(kType, depth);
    std::byte* const out = memory.get(kernel::gemm_strips_bytes(kType, count, depth));
    gemm_kernels().strips_of_columns(kType, row_pointers<float>(values_).data(), depth, first, count, out, stride, kernel::GemmTo::Cache);
    return {out, stride};
  }

  // Where these come from.
  kernel::GemmAhead memory_by_rows(size_t first, size_t count) const {
    count = std::min(count, values_.rows() - std::min(first, values_.rows()));
    if (packed_) return whole(packed_.by_rows(first), count);
    return {bytes_at(first * values_.stride()), count, values_.cols() * sizeof(float), values_.stride() * sizeof(float)};
  }
  kernel::GemmAhead memory_by_columns(size_t first, size_t count) const {
    count = std::min(count, values_.cols() - std::min(first, values_.cols()));
    if (packed_) return whole(packed_.by_columns(first), count);
    return {bytes_at(first), values_.rows(), count * sizeof(float), values_.stride() * sizeof(float)};
  }

 private:
  static constexpr GemmType kType = kGemmType<X>;

  const std::byte* bytes_at(size_t number) const { return reinterpret_cast<const std::byte*>(values_.data() + number); }
  static kernel::GemmAhead whole(const GemmStrips& strips, size_t columns) {
    return {strips.data, (columns + kernel::kGemmLanes - 1) / kernel::kGemmLanes, strips.stride, strips.stride};
  }

  MatrixView<const float> values_;
  PackedMatrix packed_;
};

}  // namespace moiety::train
