#include "spec/element_type.h"

#include <cassert>

namespace moiety::spec {
namespace {

// In the order of the enumeration. Q8_0: 32 int8 after one half-precision scale (ggml's block_q8_0).
constexpr ElementTypeInfo kTypes[] = {
    {ElementType::F32, "F32", "F32", 0, 1, 4, true},
    {ElementType::F16, "F16", "F16", 1, 1, 2, true},
    {ElementType::BF16, "BF16", "BF16", 30, 1, 2, true},
    {ElementType::Q8_0, "Q8_0", "", 8, 32, 34, true},
    {ElementType::U8, "U8", "U8", -1, 1, 1, false},
    {ElementType::I32, "I32", "I32", 26, 1, 4, false},
    {ElementType::I64, "I64", "I64", 27, 1, 8, false},
};

}  // namespace

const ElementTypeInfo& info(ElementType type) {
  const ElementTypeInfo& row = kTypes[static_cast<size_t>(type)];
  assert(row.type == type);
  return row;
}

std::optional<ElementType> from_name(std::string_view name) {
  for (const auto& row : kTypes) {
    if (row.name == name) return row.type;
  }
  return std::nullopt;
}

std::optional<ElementType> from_safetensors_name(std::string_view name) {
  for (const auto& row : kTypes) {
    if (!row.safetensors_name.empty() && row.safetensors_name == name) return row.type;
  }
  return std::nullopt;
}

std::optional<ElementType> from_ggml_id(uint32_t id) {
  for (const auto& row : kTypes) {
    if (row.ggml_id >= 0 && static_cast<uint32_t>(row.ggml_id) == id) return row.type;
  }
  return std::nullopt;
}

size_t bytes_of(ElementType type, size_t elements) {
  const ElementTypeInfo& row = info(type);
  assert(elements % row.block_elements == 0);
  return elements / row.block_elements * row.block_bytes;
}

}  // namespace moiety::spec
