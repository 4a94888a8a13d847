// How the numbers of a tensor lie in memory: one table row a type, with its names in each file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace moiety::spec {

enum class ElementType : uint8_t { F32, F16, BF16, Q8_0, U8, I32, I64 };

struct ElementTypeInfo {
  ElementType type;
  std::string_view name;              // ours, and GGUF's
  std::string_view safetensors_name;  // empty: safetensors has no such type
  int ggml_id;                        // GGUF's number; -1: GGUF has no such type
  size_t block_elements;              // elements that share one block
  size_t block_bytes;
  bool is_weight;                     // may stand in a matrix product
};

const ElementTypeInfo& info(ElementType type);
inline std::string_view name(ElementType type) { return info(type).name; }
std::optional<ElementType> from_name(std::string_view name);
std::optional<ElementType> from_safetensors_name(std::string_view name);
std::optional<ElementType> from_ggml_id(uint32_t id);

// Bytes of `elements` values; they must fill whole blocks.
size_t bytes_of(ElementType type, size_t elements);

}  // namespace moiety::spec
