// Models of published shapes with random weights, to measure with where nothing can be downloaded. Their text is noise, their
// routing close to uniform or as skewed as that of trained models.
#pragma once

#include <functional>
#include <span>

#include "base/file.h"
#include "format/quantize_plan.h"
#include "format/synthetic_router.h"
#include "spec/model_spec.h"

namespace moiety::format {

struct Shape {
  std::string_view name;
  std::string_view mix;  // of types that fits it best
  int layers;              // so many by default: a few gigabytes
  int published_layers;
  spec::ModelSpec (*spec_of)(int layers);
};

std::span<const Shape> shapes();
// nullptr: there is no such shape.
const Shape* shape_named(std::string_view name);

// Writes a GGUF file without a tokenizer, whose every tensor is cut out of one pool of random numbers a type; for skewed
// routing all but the embedding and the routers.
// `written(bytes, all)` is called after each tensor. Throws Error(Input) if moiety does not write one of the types.
void write_synthetic(const fs::path& path, const spec::ModelSpec& spec, const Mix& mix, SyntheticRouting routing,
                     const std::function<void(size_t bytes, size_t all)>& written = {});

}  // namespace moiety::format
