#include "format/type_mix.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::Role;

constexpr TypeMix kMixes[] = {
    {"Q4_K_M", ElementType::Q4_K, ElementType::Q4_K, ElementType::Q6_K, ElementType::Q6_K},
    {"Q5_K_M", ElementType::Q5_K, ElementType::Q5_K, ElementType::Q6_K, ElementType::Q6_K},
    {"MXFP4", ElementType::MXFP4, ElementType::Q8_0, ElementType::MXFP4, ElementType::Q8_0},
};

// The first and last eighth of the layers and every third between.
bool is_careful_layer(int layer, int layers) {
  const int eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

bool takes_care(Role role) {
  return role == Role::Value || role == Role::ExpertDown || role == Role::SharedDown || role == Role::DenseDown;
}

// For rows of whole blocks of 32 that are no whole blocks of 256.
ElementType in_blocks_of_32(ElementType type) {
  switch (type) {
    case ElementType::Q2_K:
    case ElementType::Q3_K:
      return ElementType::Q4_0;
    case ElementType::IQ4_XS:
      return ElementType::IQ4_NL;
    case ElementType::Q4_K:
      return ElementType::Q5_0;
    case ElementType::Q5_K:
      return ElementType::Q5_1;
    default:
      return ElementType::Q8_0;
  }
}

}  // namespace

std::optional<TypeMix> mix_named(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  for (const TypeMix& mix : kMixes) {
    if (mix.name == upper) return mix;
  }
  const auto type = spec::from_name(upper);
  if (!type || !spec::info(*type).is_weight || spec::info(*type).ggml_id < 0) return std::nullopt;
  const bool small = spec::info(*type).block_elements > 1 && *type != ElementType::Q8_0;
  return TypeMix{spec::name(*type), *type, *type, *type, small ? ElementType::Q6_K : *type};
}

ElementType type_in_mix(const TypeMix& mix, const spec::ModelSpec& spec, const spec::Weight& weight) {
  const auto shape = spec::shape_of(spec, weight.role);
  if (shape.size() < 2 || shape[0] == 1 || weight.role == Role::Router) return ElementType::F32;
  ElementType type = spec::is_expert(weight.role) ? mix.experts : mix.rest;
  if (weight.role == Role::Head) type = mix.head;
  if (takes_care(weight.role) && is_careful_layer(weight.layer, spec.num_layers) && mix.careful != mix.experts) type = mix.careful;
  const auto fills = [&](ElementType t) { return static_cast<size_t>(shape.back()) % spec::info(t).block_elements == 0; };
  if (!fills(type)) type = in_blocks_of_32(type);
  return fills(type) ? type : ElementType::F16;
}

}  // namespace moiety::format
