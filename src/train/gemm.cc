#include "train/gemm.h"

#include <omp.h>

#include <algorithm>

#include "kernel/kernels.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

// Columns of c that a task computes at a time, and how much of the depth: their strips stay in the second-level cache.
constexpr size_t kColumns = 64, kDepth = 1024;
// Fewer rows are not worth laying out strips again for.
constexpr size_t kLeastRows = 128;

struct Product {
  GemmType type;
  MatrixView<const float> a;
  Operand b;
  bool a_is_turned, b_is_turned;  // a lies as KM; b as NK
  MatrixView<float> c;
  bool add;
  size_t depth;
};

// body(first, count) for pieces of [0, count), on all threads.
template <class Body>
void for_pieces(size_t count, size_t piece, const Body& body) {
  parallel_tasks((count + piece - 1) / piece, [&](size_t i) { body(i * piece, std::min(piece, count - i * piece)); });
}

// Where the rows of a lie as the kernel wants them: where they are, or laid out in memory of this thread's.
std::span<const std::byte*> lay_out_rows(const Product& p) {
  thread_local Scratch pointer_memory, row_memory, memory;
  const kernel::GemmKernels& gemm = gemm_kernels();
  const auto a = row_pointers(p.a, pointer_memory);
  const std::span rows(row_memory.get<const std::byte*>(p.c.rows()), p.c.rows());
  if (p.type == GemmType::F32 && !p.a_is_turned) {
    for (size_t m = 0; m < rows.size(); ++m) rows[m] = reinterpret_cast<const std::byte*>(a[m]);
    return rows;
  }
  const size_t stride = kernel::gemm_row_bytes(p.type, p.depth);
  std::byte* const out = memory.get(rows.size() * stride);
  for (size_t m = 0; m < rows.size(); ++m) rows[m] = out + m * stride;
  for_pieces(rows.size(), 64, [&](size_t first, size_t count) {
    if (p.a_is_turned) return gemm.turn_columns(p.type, a.data(), p.depth, first, count, out + first * stride, stride);
    for (size_t m = first; m < first + count; ++m) gemm.round_row(a[m], p.depth, out + m * stride);
  });
  return rows;
}

// c's rows [first_row, + rows) and columns [first_column, + columns).
struct Part {
  size_t first_row, rows, first_column, columns;
};

// Of the columns of a part, from depth k on: where they lie packed, or laid out in memory of this thread's.
GemmStrips strips_of(const Product& p, std::span<const float* const> b, const Part& part, size_t k, size_t depth) {
  if (p.type == GemmType::Bf16 && p.b.packed) {
    return p.b_is_turned ? p.b.packed.by_rows(part.first_column, k) : p.b.packed.by_columns(part.first_column, k);
  }
  thread_local Scratch memory;
  const kernel::GemmKernels& gemm = gemm_kernels();
  const size_t stride = kernel::gemm_strip_bytes(p.type, depth);
  std::byte* const strips = memory.get(kernel::gemm_strips_bytes(p.type, part.columns, depth));
  if (p.b_is_turned) {
    const float* columns[kColumns];
    for (size_t n = 0; n < part.columns; ++n) columns[n] = b[part.first_column + n] + k;
    gemm.strips_of_rows(p.type, columns, part.columns, depth, strips, kernel::GemmTo::Cache);
  } else {
    gemm.strips_of_columns(p.type, b.data() + k, depth, part.first_column, part.columns, strips, stride, kernel::GemmTo::Cache);
  }
  return {strips, stride};
}

void compute(const Product& p, std::span<const std::byte* const> a_M, std::span<const float* const> b, const Part& part) {
  thread_local Scratch row_memory;
  for (size_t k = 0; k < p.depth; k += kDepth) {
    const size_t depth = std::min(kDepth, p.depth - k);
    const GemmStrips strips = strips_of(p, b, part, k, depth);
    const std::byte** rows = row_memory.get<const std::byte*>(part.rows);
    for (size_t m = 0; m < part.rows; ++m) rows[m] = a_M[part.first_row + m] + kernel::gemm_row_bytes(p.type, k);
    gemm_kernels().multiply(p.type, rows, part.rows, strips, part.columns, kernel::gemm_steps(p.type, depth),
                            p.c.row(part.first_row).data() + part.first_column, p.c.stride(), p.add || k > 0, {});
  }
}

void multiply(const Product& p) {
  if (p.c.rows() == 0 || p.c.cols() == 0) return;
  if (p.depth == 0) {
    for (size_t r = 0; r < p.c.rows() && !p.add; ++r) std::ranges::fill(p.c.row(r), 0.0f);
    return;
  }
  thread_local Scratch pointer_memory;
  const auto rows = lay_out_rows(p);
  const auto b = row_pointers(p.b.values, pointer_memory);

  // Pieces of rows only as far as columns are too few for all threads
  const size_t columns = (p.c.cols() + kColumns - 1) / kColumns;
  const size_t wanted = omp_in_parallel() ? 1 : (4 * parallel_parts() + columns - 1) / columns;
  const size_t pieces = std::clamp<size_t>(p.c.rows() / kLeastRows, 1, wanted);
  parallel_tasks(columns * pieces, [&](size_t i) {
    const size_t piece = i % pieces, column = i / pieces * kColumns;
    const size_t begin = p.c.rows() * piece / pieces, end = p.c.rows() * (piece + 1) / pieces;
    compute(p, rows, b, {begin, end - begin, column, std::min(kColumns, p.c.cols() - column)});
  });
}

}  // namespace

const kernel::GemmKernels& gemm_kernels() {
  static const kernel::GemmKernels& best = *kernel::available_kernels()[0]->gemm;
  return best;
}

std::span<const float* const> row_pointers(MatrixView<const float> x, Scratch& memory) {
  const std::span rows(memory.get<const float*>(x.rows()), x.rows());
  for (size_t r = 0; r < x.rows(); ++r) rows[r] = x.data() + r * x.stride();
  return rows;
}

void multiply_nt(GemmType type, MatrixView<const float> a_MK, const Operand& b_NK, MatrixView<float> c_MN, Into into) {
  assert(a_MK.rows() == c_MN.rows() && b_NK.values.rows() == c_MN.cols() && a_MK.cols() == b_NK.values.cols());
  multiply({type, a_MK, b_NK, false, true, c_MN, into == Into::Add, a_MK.cols()});
}

void multiply_nn(GemmType type, MatrixView<const float> a_MK, const Operand& b_KN, MatrixView<float> c_MN, Into into) {
  assert(a_MK.rows() == c_MN.rows() && b_KN.values.cols() == c_MN.cols() && a_MK.cols() == b_KN.values.rows());
  multiply({type, a_MK, b_KN, false, false, c_MN, into == Into::Add, a_MK.cols()});
}

void multiply_tn(GemmType type, MatrixView<const float> a_KM, MatrixView<const float> b_KN, MatrixView<float> c_MN, Into into) {
  assert(a_KM.cols() == c_MN.rows() && b_KN.cols() == c_MN.cols() && a_KM.rows() == b_KN.rows());
  multiply({type, a_KM, b_KN, true, false, c_MN, into == Into::Add, a_KM.rows()});
}

}  // namespace moiety::train
