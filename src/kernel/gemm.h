// Products of matrices that change from call to call, as training has them: in f32, or with both operands rounded to bf16 on
// the way in; sums are f32. (What weights that stay are multiplied with is in linear.h.)
//
// Of a product c = a * b one operand, b, is laid out in strips of sixteen columns: for each step of the common depth K, one
// number of f32 or a pair of bf16, the sixteen columns' side by side in 64 bytes. A row of a has the same steps, of 4 bytes
// each. So a lane is a column of c: nothing is summed across lanes, each element of c is one sum in the order of K, and whatever
// c is cut into, its bits are the same. (What an odd K leaves of a pair is zero.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace moiety::kernel {

enum class GemmType { F32, Bf16 };

inline constexpr size_t kGemmLanes = 16;

constexpr size_t gemm_steps(GemmType type, size_t depth) { return type == GemmType::F32 ? depth : (depth + 1) / 2; }
constexpr size_t gemm_row_bytes(GemmType type, size_t depth) { return 4 * gemm_steps(type, depth); }
constexpr size_t gemm_strip_bytes(GemmType type, size_t depth) { return 4 * kGemmLanes * gemm_steps(type, depth); }
// Of all strips that so many columns take.
constexpr size_t gemm_strips_bytes(GemmType type, size_t cols, size_t depth) {
  return (cols + kGemmLanes - 1) / kGemmLanes * gemm_strip_bytes(type, depth);
}

// Memory that is needed next: rows of so many bytes, `stride` bytes apart.
struct GemmAhead {
  const std::byte* data = nullptr;
  size_t rows = 0, bytes = 0, stride = 0;
};

// Strips that begin so many bytes apart: gemm_strip_bytes() of the depth, or of that of which they are a part.
struct GemmStrips {
  const std::byte* data;
  size_t stride;
};

// Where strips are written: to be read at once, or, past the caches, much later; then they begin at multiples of 64 bytes.
enum class GemmTo { Cache, Memory };

struct GemmKernels {
  // c[m * c_stride + n], or with `add` what is there and the product, for m < rows and n < cols.
  // Meanwhile, a line now and then, `ahead` comes into the second-level cache.
  void (*multiply)(GemmType type, const std::byte* const* a_M, size_t rows, GemmStrips strips, size_t cols, size_t steps, float* c,
                   size_t c_stride, bool add, const GemmAhead& ahead) noexcept;

  // A row of a in bf16, from `depth` floats.
  void (*round_row)(const float* x, size_t depth, std::byte* row) noexcept;
  // Rows of a, `stride` bytes apart, from columns [first, first + count) of the rows x_K.
  void (*turn_columns)(GemmType type, const float* const* x_K, size_t depth, size_t first, size_t count, std::byte* rows,
                       size_t stride) noexcept;

  // Strips, `stride` bytes apart, from columns [first, first + cols) of the rows x_K: for a * x.
  void (*strips_of_columns)(GemmType type, const float* const* x_K, size_t depth, size_t first, size_t cols, std::byte* strips,
                            size_t stride, GemmTo to) noexcept;
  // The same two from rows that are in bf16 already, for products in bf16.
  void (*turn_rounded_columns)(const uint16_t* const* x_K, size_t depth, size_t first, size_t count, std::byte* rows,
                               size_t stride) noexcept;
  void (*strips_of_rounded_columns)(const uint16_t* const* x_K, size_t depth, size_t first, size_t cols, std::byte* strips,
                                    size_t stride) noexcept;
  // Strips, one after the other, whose columns are the first `depth` numbers of each of the rows x_N: for a * x transposed.
  void (*strips_of_rows)(GemmType type, const float* const* x_N, size_t cols, size_t depth, std::byte* strips, GemmTo to) noexcept;
};

// The one that is made for a table's instruction set (Kernels::gemm).
const GemmKernels& gemm_scalar();
const GemmKernels& gemm_avx2();
const GemmKernels& gemm_avx512();

}  // namespace moiety::kernel
