// A matrix of weights in bf16 as products read it (kernel/gemm.h), both ways: 4 bytes a weight. Made once a step, where it would be laid
// out in every product.
#pragma once

#include "base/matrix.h"
#include "kernel/gemm.h"

namespace moiety::train {

using kernel::GemmStrips;

struct PackedMatrix {
  const std::byte* data = nullptr;
  size_t rows = 0, cols = 0;

  explicit operator bool() const { return data != nullptr; }
  // The one that lies `n` matrices of the same shape further on, as experts do.
  PackedMatrix after(size_t n) const;
  // Strips for x * Wᵀ and x * W, from row or column `first` on, a multiple of kGemmLanes; and from a depth on, which is even.
  GemmStrips by_rows(size_t first, size_t depth = 0) const;
  GemmStrips by_columns(size_t first, size_t depth = 0) const;
};

size_t packed_bytes(size_t rows, size_t cols);

// Packs rows from `first` on, a multiple of kGemmLanes, of a matrix with so many `rows`; as many as there are, or a multiple again.
void pack_rows(MatrixView<const float> from, size_t first, size_t rows, std::byte* matrix, kernel::GemmTo to);

}  // namespace moiety::train
