// How many bytes a matrix takes in the layout that kernels compute with, by element type. What lies where in them is written
// at kernel/packed.h; files that hold packed matrices are checked by this table.
#pragma once

#include <cstddef>

#include "spec/element_type.h"

namespace moiety::spec {

// A matrix is packed in strips of so many rows, the last one filled up with zeros.
inline constexpr size_t kStripRows = 16;

struct PackedLayout {
  ElementType type;
  size_t block;           // columns
  size_t quanta, scales;  // bytes of one block of a strip

  // Of a group; the last one of a strip may have fewer.
  constexpr size_t blocks_in_group() const { return scales == 0 || scales >= 64 ? 1 : 64 / scales; }
  constexpr size_t strip_bytes(size_t cols) const { return ((cols + block - 1) / block * (quanta + scales) + 63) / 64 * 64; }
  constexpr size_t bytes(size_t rows, size_t cols) const { return (rows + kStripRows - 1) / kStripRows * strip_bytes(cols); }
};

inline constexpr PackedLayout kPackedLayouts[] = {
    {ElementType::BF16, 32, 1024, 0},       {ElementType::Q8_0, 32, 512, 32},
    {ElementType::Q4_0, 32, 256, 32},       {ElementType::Q4_1, 32, 256, 64},
    {ElementType::Q5_0, 32, 320, 32},       {ElementType::Q5_1, 32, 320, 64},
    {ElementType::IQ4_NL, 32, 256, 32},     {ElementType::MXFP4, 32, 256, 16},
    {ElementType::MXFP4_PLANES, 32, 256, 16},
    {ElementType::Q8_0_UPPER, 32, 256, 32}, {ElementType::Q8_0_LOWER, 32, 256, 0},
    {ElementType::Q2_K, 256, 1024, 320},    {ElementType::Q3_K, 256, 1536, 256},
    {ElementType::Q4_K, 256, 2048, 256},    {ElementType::Q5_K, 256, 2560, 256},
    {ElementType::Q6_K, 256, 3072, 320},    {ElementType::IQ4_XS, 256, 2048, 128},
};

// nullptr: the type has no packed form and is computed with as it lies, row by row.
constexpr const PackedLayout* packed_layout(ElementType type) {
  for (const PackedLayout& row : kPackedLayouts) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace moiety::spec
