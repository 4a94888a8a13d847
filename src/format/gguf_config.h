// A GGUF file's metadata about the model (the tokenizer's part is in gguf_tokenizer).
#pragma once

#include "format/families.h"
#include "format/gguf.h"
#include "spec/model_spec.h"

namespace moiety::format {

// The tensor of divisors of the rotary frequencies, [rope_dim / 2].
inline constexpr const char* kRopeFactors = "rope_freqs.weight";

// Reads the architecture and sizes. Some things only the tensors tell (vocabulary size, tied embeddings, dense layers).
spec::ModelSpec read_gguf_config(const GgufFile& file);

// Adds general.* and the architecture's keys for `spec` as `family` (which must express it).
void add_gguf_config(const spec::ModelSpec& spec, const Family& family, spec::ElementType type, const std::string& name,
                     GgufMetadata& metadata);

}  // namespace moiety::format
