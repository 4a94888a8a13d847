// What each weight is called in each kind of file: name tables, a row a role.
#pragma once

#include <span>
#include <string>

#include "spec/weight.h"

namespace moiety::format {

// A pattern holds {L} for the layer and {E} for the expert. An expert role's pattern without {E} names a stack of all
// experts [E, out, in].
struct WeightName {
  spec::Role role;
  const char* pattern;
};

// The rows of `special` come before the rows of `common`: a family says only where it differs.
struct WeightNames {
  std::span<const WeightName> common;
  std::span<const WeightName> special;

  // nullptr: files of this kind have no name for the role.
  const char* pattern(spec::Role role) const;
  bool stacks_experts() const;
  std::string name(const spec::Weight& weight) const;  // empty if there is none
};

extern const WeightNames kOurNames;             // training checkpoints
extern const WeightNames kGgufNames;            // all GGUF families; Glm4 differs in a norm
extern const WeightNames kGgufGlm4Names;
extern const WeightNames kMixtralNames;         // Hugging Face, by family
extern const WeightNames kMlpExpertsNames;      // OLMoE, Qwen2-MoE, Qwen3-MoE
extern const WeightNames kGlm4Names;

}  // namespace moiety::format
