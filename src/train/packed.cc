#include "train/packed.h"

#include <algorithm>

#include "train/gemm.h"

namespace moiety::train {
namespace {

using kernel::gemm_strip_bytes;
using kernel::kGemmLanes;

GemmStrips strips_at(const std::byte* strips, size_t whole_depth, size_t first, size_t depth) {
  const size_t stride = gemm_strip_bytes(GemmType::Bf16, whole_depth);
  return {strips + first / kGemmLanes * stride + gemm_strip_bytes(GemmType::Bf16, depth), stride};
}

size_t rows_bytes(size_t rows, size_t cols) { return kernel::gemm_strips_bytes(GemmType::Bf16, rows, cols); }

}  // namespace

size_t packed_bytes(size_t rows, size_t cols) { return rows_bytes(rows, cols) + rows_bytes(cols, rows); }

PackedMatrix PackedMatrix::after(size_t n) const {
  return data == nullptr ? *this : PackedMatrix{data + n * packed_bytes(rows, cols), rows, cols};
}
GemmStrips PackedMatrix::by_rows(size_t first, size_t depth) const { return strips_at(data, cols, first, depth); }
GemmStrips PackedMatrix::by_columns(size_t first, size_t depth) const {
  return strips_at(data + rows_bytes(rows, cols), rows, first, depth);
}

void pack_rows(MatrixView<const float> from, size_t first, size_t rows, std::byte* matrix, kernel::GemmTo to) {
  const kernel::GemmKernels& gemm = gemm_kernels();
  const size_t cols = from.cols(), stride = gemm_strip_bytes(GemmType::Bf16, rows);
  std::byte* const by_rows = matrix + rows_bytes(first, cols);
  std::byte* const by_columns = matrix + rows_bytes(rows, cols) + gemm_strip_bytes(GemmType::Bf16, first);
  // A few rows at a time, which are still in the first-level cache when they are read the second time
  for (size_t at = 0; at < from.rows(); at += kGemmLanes) {
    const float* row[kGemmLanes];
    const size_t count = std::min(kGemmLanes, from.rows() - at);
    for (size_t r = 0; r < count; ++r) row[r] = from.row(at + r).data();
    gemm.strips_of_rows(GemmType::Bf16, row, count, cols, by_rows + rows_bytes(at, cols), to);
    gemm.strips_of_columns(GemmType::Bf16, row, count, 0, cols, by_columns + gemm_strip_bytes(GemmType::Bf16, at), stride, to);
  }
}

}  // namespace moiety::train
