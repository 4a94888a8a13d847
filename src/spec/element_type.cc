#include "spec/element_type.h"

#include <cassert>

namespace moiety::spec {
namespace {

// In the order of the enumeration. What the bytes of a block mean: kernel/scalar.cc.
constexpr ElementTypeInfo kTypes[] = {
    {ElementType::F32, "F32", "F32", 0, 1, 4, true},
    {ElementType::F16, "F16", "F16", 1, 1, 2, true},
    {ElementType::BF16, "BF16", "BF16", 30, 1, 2, true},
    {ElementType::Q8_0, "Q8_0", "", 8, 32, 34, true},
    {ElementType::Q4_0, "Q4_0", "", 2, 32, 18, true},
    {ElementType::Q4_1, "Q4_1", "", 3, 32, 20, true},
    {ElementType::Q5_0, "Q5_0", "", 6, 32, 22, true},
    {ElementType::Q5_1, "Q5_1", "", 7, 32, 24, true},
    {ElementType::Q2_K, "Q2_K", "", 10, 256, 84, true},
    {ElementType::Q3_K, "Q3_K", "", 11, 256, 110, true},
    {ElementType::Q4_K, "Q4_K", "", 12, 256, 144, true},
    {ElementType::Q5_K, "Q5_K", "", 13, 256, 176, true},
    {ElementType::Q6_K, "Q6_K", "", 14, 256, 210, true},
    {ElementType::IQ4_NL, "IQ4_NL", "", 20, 32, 18, true},
    {ElementType::IQ4_XS, "IQ4_XS", "", 23, 256, 136, true},
    {ElementType::MXFP4, "MXFP4", "", 39, 32, 17, true},
    {ElementType::MXFP4_PLANES, "MXFP4_PLANES", "", -1, 32, 16, true, true},
    {ElementType::F8_E4M3, "F8_E4M3", "F8_E4M3", -1, 1, 1, true, true},
    {ElementType::Q8_0_UPPER, "Q8_0_UPPER", "", -1, 32, 18, false},
    {ElementType::Q8_0_LOWER, "Q8_0_LOWER", "", -1, 32, 16, false},
    {ElementType::IQ1_S, "IQ1_S", "", 19, 256, 50, false},
    {ElementType::IQ1_M, "IQ1_M", "", 29, 256, 56, false},
    {ElementType::IQ2_XXS, "IQ2_XXS", "", 16, 256, 66, false},
    {ElementType::IQ2_XS, "IQ2_XS", "", 17, 256, 74, false},
    {ElementType::IQ2_S, "IQ2_S", "", 22, 256, 82, false},
    {ElementType::IQ3_XXS, "IQ3_XXS", "", 18, 256, 98, false},
    {ElementType::IQ3_S, "IQ3_S", "", 21, 256, 110, false},
    {ElementType::TQ1_0, "TQ1_0", "", 34, 256, 54, false},
    {ElementType::TQ2_0, "TQ2_0", "", 35, 256, 66, false},
    {ElementType::U8, "U8", "U8", -1, 1, 1, false},
    {ElementType::I8, "I8", "I8", 24, 1, 1, false},
    {ElementType::U16, "U16", "U16", -1, 1, 2, false},
    {ElementType::I16, "I16", "I16", 25, 1, 2, false},
    {ElementType::U32, "U32", "U32", -1, 1, 4, false},
    {ElementType::I32, "I32", "I32", 26, 1, 4, false},
    {ElementType::U64, "U64", "U64", -1, 1, 8, false},
    {ElementType::I64, "I64", "I64", 27, 1, 8, false},
    {ElementType::Bool, "BOOL", "BOOL", -1, 1, 1, false},
    {ElementType::F64, "F64", "F64", 28, 1, 8, false},
    {ElementType::F8_E5M2, "F8_E5M2", "F8_E5M2", -1, 1, 1, false},
    {ElementType::F8_E8M0, "F8_E8M0", "F8_E8M0", -1, 1, 1, false},
};

}  // namespace

std::span<const ElementTypeInfo> element_types() { return kTypes; }

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

std::string weight_type_names() {
  std::string names;
  for (const auto& row : kTypes) {
    if (row.is_weight) names.append(names.empty() ? "" : ", ").append(row.name);
  }
  return names;
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
