// The model families that moiety reads and writes: a row each. A family says what its files call things and how its
// configuration becomes a ModelSpec; the forward pass never asks for it. docs/adding/a-model-family.md shows how to add one.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "format/features.h"
#include "format/gguf.h"
#include "format/weight_names.h"
#include "spec/model_spec.h"

namespace moiety::format {

// A family as Hugging Face's code has it.
struct HfFamily {
  const char* model_type;    // config.json "model_type"
  const char* architecture;  // config.json "architectures"
  const WeightNames& names;
  spec::RopePairs rope_pairs;
  // Fills in what the family's config.json says differently from what all share, and writes it.
  void (*read)(const JsonObject& config, spec::ModelSpec& spec);
  void (*write)(const spec::ModelSpec& spec, Json& config);
  Features may;  // have, beside what it must
};

// … and as llama.cpp has it.
struct GgufFamily {
  const char* architecture;  // nullptr: llama.cpp has no such model, or computes it otherwise
  const WeightNames& names = kGgufNames;
  spec::RopePairs rope_pairs = spec::RopePairs::Halves;
  void (*read)(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec) = nullptr;
  void (*write)(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata) = nullptr;
  Features may;
};

struct Family {
  const char* name;  // ModelSpec::family
  Features must;     // have: what its implementations always do
  HfFamily hf;
  GgufFamily gguf;
  // Biases that its files always have; zeros for a model that does without.
  std::span<const spec::Role> always_has;
};

std::span<const Family> families();
// nullptr if no family has this name.
const Family* family_named(std::string_view name);
const Family* family_of_hf(std::string_view model_type);
// Families may share an architecture; `experts` and `sigmoid_scores` say which one it is.
const Family* family_of_gguf(std::string_view architecture, bool experts, bool sigmoid_scores);

enum class FileKind { HuggingFace, Gguf };

// What the family's files of this kind can't say of a model with these features, or an empty string.
std::string cannot_express(const Family& family, FileKind kind, Features features);

// The family whose standard implementation computes exactly what `spec` says: its own if it has one, else the first that
// fits. Throws Error(Input) with what each family lacks if none does.
const Family& closest_family(const spec::ModelSpec& spec, FileKind kind);

}  // namespace moiety::format
