// The model families that moiety reads and writes: a row each. A family says what its files call things and how its
// configuration becomes a ModelSpec; the forward pass never asks for it. docs/adding/a-model-family.md shows how to add one.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "format/gguf.h"
#include "format/weight_names.h"
#include "spec/model_spec.h"

namespace moiety::format {

struct Family {
  const char* name;  // ModelSpec::family
  // Hugging Face
  const char* hf_model_type;    // config.json "model_type"
  const char* hf_architecture;  // config.json "architectures"
  const WeightNames& hf_names;
  // Fills in what the family's config.json says differently from what all share, and writes it.
  void (*read_hf)(const JsonObject& config, spec::ModelSpec& spec);
  void (*write_hf)(const spec::ModelSpec& spec, Json& config);
  // GGUF
  const char* gguf_architecture;
  const WeightNames& gguf_names;
  spec::RopePairs gguf_rope_pairs;
  void (*read_gguf)(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
  void (*write_gguf)(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
  // Biases that its files always have; zeros for a model that does without.
  std::span<const spec::Role> always_has;
  // What the family can't say of this model, or an empty string if it says all of it.
  std::string (*cannot_express)(const spec::ModelSpec& spec);
};

std::span<const Family> families();
const Family* family_of_hf(std::string_view model_type);
// nullptr if no family has this name.
const Family* family_named(std::string_view name);

// The family whose standard implementation computes exactly what `spec` says: its own if it has one, else the first that
// fits. Throws Error(Input) with what each family lacks if none does.
const Family& closest_family(const spec::ModelSpec& spec);

}  // namespace moiety::format
