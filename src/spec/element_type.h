// How the numbers of a tensor lie in memory: one table row a type, with its names in each file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace moiety::spec {

enum class ElementType : uint8_t {
  F32, F16, BF16,
  Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,  // ggml's blocks of 32
  Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,  // ggml's blocks of 256
  IQ4_NL, IQ4_XS,                // ggml's blocks of 32 and 256 with sixteen unevenly spaced levels
  MXFP4,                         // ggml's blocks of 32 four-bit floats under a power of two
  MXFP4_PLANES,                  // the same numbers as gpt-oss checkpoints have them: the scales apart
  F8_E4M3,                       // one byte an element, the scales apart
  Q8_0_UPPER, Q8_0_LOWER,        // the planes of Q8_0's bytes, which packed files may have apart (kernel/planes.h)
  // What follows may lie in files and be looked at or passed over, not computed with.
  IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0,
  U8, I8, U16, I16, U32, I32, U64, I64, Bool, F64, F8_E5M2, F8_E8M0,
};

struct ElementTypeInfo {
  ElementType type;
  std::string_view name;              // ours, and GGUF's
  std::string_view safetensors_name;  // empty: safetensors has no such type
  int ggml_id;                        // GGUF's number; -1: GGUF has no such type
  size_t block_elements;              // elements that share one block
  size_t block_bytes;
  bool is_weight;                     // may stand in a matrix product
  bool has_scales = false;            // Scales belong to it
};

// Scales that lie apart from the elements of a matrix: row r, column c is multiplied by the scale at row r / block_rows,
// column c / block_cols of a grid of float32 (F8_E4M3) or of bytes b that stand for 2^(b - 127) (MXFP4_PLANES).
struct Scales {
  const std::byte* data = nullptr;  // nullptr: every scale is 1
  size_t row_stride = 0;            // bytes from one row of scales to the next
  size_t block_rows = 1;
  size_t block_cols = 32;           // F8_E4M3: a multiple of 16, or no less than the columns; MXFP4_PLANES: 32

  // The scales of row r.
  const std::byte* row(size_t r) const { return data == nullptr ? nullptr : data + r / block_rows * row_stride; }
};

// Every type, in the order of the enumeration.
std::span<const ElementTypeInfo> element_types();
const ElementTypeInfo& info(ElementType type);
inline std::string_view name(ElementType type) { return info(type).name; }
std::optional<ElementType> from_name(std::string_view name);
// The names of all types that may stand in a matrix product, for sentences: "F32, F16, …".
std::string weight_type_names();
std::optional<ElementType> from_safetensors_name(std::string_view name);
std::optional<ElementType> from_ggml_id(uint32_t id);

// Bytes of `elements` values; they must fill whole blocks.
size_t bytes_of(ElementType type, size_t elements);

}  // namespace moiety::spec
