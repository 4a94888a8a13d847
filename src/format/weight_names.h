// What each weight is called in each kind of file, and how it lies in the tensor of that name: tables, a row a role.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "format/weight_layout.h"
#include "spec/weight.h"

namespace moiety::format {

// A pattern holds {L} for the layer and {E} for the expert. An expert role's pattern without {E} names a stack of all
// experts [E, out, in].
struct WeightName {
  spec::Role role;
  const char* pattern;
  Layout layout = Layout::Plain;
};

// The rows of `special` come before the rows of `common`: a family says only where it differs. Where a role has several
// rows, a file has the tensor of one of them.
struct WeightNames {
  std::span<const WeightName> common;
  std::span<const WeightName> special;

  // The rows of a role; none: files of this kind have no place for it.
  std::vector<const WeightName*> rows(spec::Role role) const;
  bool stacks_experts() const;
};

// The pattern with its numbers filled in.
std::string name_of(const WeightName& row, const spec::Weight& weight);
bool is_stack(const WeightName& row);  // of all experts
std::string our_name(const spec::Weight& weight);  // in training checkpoints

extern const WeightNames kOurNames;           // training checkpoints
extern const WeightNames kOurTernaryNames;    // … of models with ternary experts
extern const WeightNames kGgufNames;          // all GGUF families
extern const WeightNames kGgufPostNormNames;  // GLM-4.5 and gpt-oss differ in a norm
extern const WeightNames kMixtralNames;       // Hugging Face, by family
extern const WeightNames kMlpExpertsNames;    // Qwen, OLMoE; dense models
extern const WeightNames kDeepSeekNames;      // DeepSeek, GLM-4.5
extern const WeightNames kMiniMaxNames;
extern const WeightNames kGraniteNames;
extern const WeightNames kJetMoeNames;
extern const WeightNames kGptOssNames;

}  // namespace moiety::format
