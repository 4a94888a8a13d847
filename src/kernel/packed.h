// Weights in the kernels' own layout: the same bits as in the file, turned so that one vector register holds a few columns of
// sixteen rows. A lane is a row: nothing is summed across lanes, one token and a thousand use the same bytes, and every
// output is one sum in one order.
//
// A matrix is a sequence of strips of sixteen rows (the last one filled up with zeros), a strip one of groups of blocks of
// columns, a group the quanta of its blocks, one block after the other, then their scales. Groups are as small as whole
// vectors allow: who multiplies reads one stream from end to end, and turning back in it a few hundred bytes is what
// processors' prefetching forgives; a few thousand cost it a fifth of the memory's speed.
//
// Quanta: vectors of 64 bytes. Byte 4 r + c of a vector belongs to row r of the strip and column 4 g + c, where g counts
// groups of four columns within 32 columns: 0 to 7. Of each 32 columns there are, in this order,
//   low nibbles   four vectors; vector j has group j in its lower nibbles and group j + 4 in its upper ones
//   bit pairs     two vectors; vector j has groups 4 j to 4 j + 3 in bits 0-1, 2-3, 4-5, 6-7
//   single bits   one vector; bit g of each byte is of group g
//   whole bytes   eight vectors, one a group
// and of bf16 sixteen vectors of two columns each. Which of these a type has kernel/pack.cc says; in blocks of 256 each kind
// lies together, the eight times 32 columns one after the other.
//
// Scales of a block: see kPackedTypes. The sizes of both are in spec/packed_layout.h, for files hold packed matrices too.
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernel/activations.h"
#include "kernel/kernels.h"
#include "spec/packed_layout.h"

namespace moiety::kernel {

using spec::kStripRows;

// The sizes, and what the type is multiplied with.
struct PackedType : spec::PackedLayout {
  ActivationFormat activations;
};

// The scales of a block, for each of sixteen rows r; "six bits" are described in pack.cc.
//   Q8_0 Q4_0 Q5_0 IQ4_NL,  half scale [r]
//   Q8_0_UPPER
//   Q4_1 Q5_1               half scale [r], half minimum [r]
//   MXFP4                   exponent byte [r]
//   Q2_K                    byte [sub-block of 16][r], half scale [r], half minimum [r]
//   Q3_K                    six bits [sub-block of 16][r], half scale [r]
//   Q4_K Q5_K               six bits [8 scales, 8 minima][r], half scale [r], half minimum [r]
//   Q6_K                    signed byte [sub-block of 16][r], half scale [r]
//   IQ4_XS                  nibbles and bit pairs of eight scales, half scale [r]
// Those of Q3_K and Q6_K are filled up to whole vectors.
inline constexpr PackedType kPackedTypes[] = {
    {*spec::packed_layout(spec::ElementType::BF16), {ActivationForm::Bf16}},
    {*spec::packed_layout(spec::ElementType::Q8_0), {ActivationForm::Int8By32, 128}},
    {*spec::packed_layout(spec::ElementType::Q4_0), {ActivationForm::Int8By32, 8}},
    {*spec::packed_layout(spec::ElementType::Q4_1), {ActivationForm::Int8By32, 0}},
    {*spec::packed_layout(spec::ElementType::Q5_0), {ActivationForm::Int8By32, 16}},
    {*spec::packed_layout(spec::ElementType::Q5_1), {ActivationForm::Int8By32, 0}},
    {*spec::packed_layout(spec::ElementType::IQ4_NL), {ActivationForm::Int8By32, 128}},
    {*spec::packed_layout(spec::ElementType::MXFP4), {ActivationForm::Int8By32, 12}},
    {*spec::packed_layout(spec::ElementType::MXFP4_PLANES), {ActivationForm::Int8By32, 12}},
    {*spec::packed_layout(spec::ElementType::Q8_0_UPPER), {ActivationForm::Int8By32, 128}},
    {*spec::packed_layout(spec::ElementType::Q2_K), {ActivationForm::Int8By256}},
    {*spec::packed_layout(spec::ElementType::Q3_K), {ActivationForm::Int8By256}},
    {*spec::packed_layout(spec::ElementType::Q4_K), {ActivationForm::Int8By256}},
    {*spec::packed_layout(spec::ElementType::Q5_K), {ActivationForm::Int8By256}},
    {*spec::packed_layout(spec::ElementType::Q6_K), {ActivationForm::Int8By256}},
    {*spec::packed_layout(spec::ElementType::IQ4_XS), {ActivationForm::Int8By256}},
};

// nullptr: the type has no packed form and is computed with as it lies in the file.
constexpr const PackedType* packed_type(spec::ElementType type) {
  for (const PackedType& row : kPackedTypes) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

// A matrix in packed form.
struct PackedView {
  const PackedType* type = nullptr;
  const std::byte* data = nullptr;  // 64-byte aligned
  size_t rows = 0, cols = 0;

  size_t blocks() const { return (cols + type->block - 1) / type->block; }
  size_t strips() const { return (rows + kStripRows - 1) / kStripRows; }
  size_t strip_bytes() const { return type->strip_bytes(cols); }
  size_t bytes() const { return type->bytes(rows, cols); }
  const std::byte* strip(size_t s) const { return data + s * strip_bytes(); }
  // Where in a strip the quanta and the scales of a block are.
  struct Place {
    size_t quanta, scales;
  };
  Place block_at(size_t b) const {
    const size_t in_group = type->blocks_in_group(), i = b % in_group, first = b - i;
    const size_t group = first * (type->quanta + type->scales), blocks_there = std::min(in_group, blocks() - first);
    return {group + i * type->quanta, group + blocks_there * type->quanta + i * type->scales};
  }
  bool empty() const { return data == nullptr; }
};

// Packs rows [16 * strip, 16 * strip + 16) of `from` to where `out`, of strip_bytes(), points.
void pack_strip(const WeightView& from, size_t strip, const PackedView& to, std::byte* out);

// Kernels::packed_linear of each table: a file each, as they take long to compile.
using PackedLinear = void(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                          float* y, size_t y_stride) noexcept;
PackedLinear packed_linear_scalar, packed_linear_avx2, packed_linear_avx512;

}  // namespace moiety::kernel
