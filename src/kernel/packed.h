// Weights in the kernels' own layout: the same bits as in the file, turned so that one vector register holds a few columns of
// sixteen rows. A lane is a row: nothing is summed across lanes, one token and a thousand use the same bytes, and every
// output is one sum in one order.
//
// A matrix is a sequence of strips of sixteen rows (the last one filled up with zeros). A strip has two planes: the quanta of
// its blocks of columns, one block after the other, then the scales of its blocks.
//
// Quanta: vectors of 64 bytes. Byte 4 r + c of a vector belongs to row r of the strip and column 4 g + c, where g counts
// groups of four columns within 32 columns: 0 to 7. Of each 32 columns there are, in this order,
//   low nibbles   four vectors; vector j has group j in its lower nibbles and group j + 4 in its upper ones
//   bit pairs     two vectors; vector j has groups 4 j to 4 j + 3 in bits 0-1, 2-3, 4-5, 6-7
//   single bits   one vector; bit g of each byte is of group g
//   whole bytes   eight vectors, one a group
// and of bf16 sixteen vectors of two columns each. Which of these a type has is in `PackedType`; in blocks of 256 each kind
// lies together, the eight times 32 columns one after the other.
//
// Scales of a block, sixteen rows each: see the table in pack.cc.
#pragma once

#include <cstddef>

#include "kernel/activations.h"
#include "kernel/kernels.h"

namespace moiety::kernel {

inline constexpr size_t kStripRows = 16;

struct PackedType {
  spec::ElementType type;
  size_t block;              // columns
  size_t quanta, scales;     // bytes of one block of a strip
  ActivationFormat activations;
};

// nullptr: the type has no packed form and is computed with as it lies in the file.
const PackedType* packed_type(spec::ElementType type);

// A matrix in packed form.
struct PackedView {
  const PackedType* type = nullptr;
  const std::byte* data = nullptr;  // 64-byte aligned
  size_t rows = 0, cols = 0;

  size_t blocks() const { return (cols + type->block - 1) / type->block; }
  size_t strips() const { return (rows + kStripRows - 1) / kStripRows; }
  size_t strip_bytes() const { return (blocks() * (type->quanta + type->scales) + 63) / 64 * 64; }
  size_t bytes() const { return strips() * strip_bytes(); }
  const std::byte* strip(size_t s) const { return data + s * strip_bytes(); }
  bool empty() const { return data == nullptr; }
};

// Packs rows [16 * strip, 16 * strip + 16) of `from` to where `out`, of strip_bytes(), points.
void pack_strip(const WeightView& from, size_t strip, const PackedView& to, std::byte* out);

// Kernels::packed_linear of each table: a file each, as they take long to compile.
using PackedLinear = void(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                          float* y, size_t y_stride) noexcept;
PackedLinear packed_linear_scalar, packed_linear_avx2, packed_linear_avx512;

}  // namespace moiety::kernel
