// Which element type each weight of a model gets in a file of a given name: one type for nearly all, or one of the mixtures
// that published GGUF files of MoE models have, as llama.cpp's quantisation tool makes them.
#pragma once

#include <optional>
#include <string_view>

#include "spec/element_type.h"
#include "spec/weight.h"

namespace moiety::format {

struct TypeMix {
  std::string_view name;
  spec::ElementType experts;  // the matrices of routed experts
  spec::ElementType rest;     // all other matrices of layers, and the embedding
  spec::ElementType careful;  // values and down projections in half of the layers, where rounding costs most
  spec::ElementType head;
};

// "Q4_K_M", "Q5_K_M", "MXFP4" (experts only, the rest in Q8_0), or any type that may stand in a matrix product. Upper or
// lower case.
std::optional<TypeMix> mix_named(std::string_view name);

// The type of a weight with rows of `cols` elements. What is no matrix, and routers, stay F32; rows that a type's blocks
// don't fill get a type of a similar size whose blocks they do.
spec::ElementType type_in_mix(const TypeMix& mix, const spec::ModelSpec& spec, const spec::Weight& weight);

}  // namespace moiety::format
