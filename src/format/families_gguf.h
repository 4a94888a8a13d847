// What each family's GGUF metadata say beyond the keys that all share: read into a ModelSpec, and written.
#pragma once

#include <string>

#include "format/gguf.h"
#include "spec/model_spec.h"

namespace moiety::format {

void read_gguf_dense(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_dense(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_qwen3(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void read_gguf_mixtral(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_mixtral(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_olmoe(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void read_gguf_qwen3_moe(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_qwen_moe(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_qwen2_moe(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_qwen2_moe(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_glm4(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_glm4(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_deepseek(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_deepseek(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_minimax(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_minimax(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_granite(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_granite(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);
void read_gguf_gpt_oss(const GgufMetadata& metadata, const std::string& prefix, spec::ModelSpec& spec);
void write_gguf_gpt_oss(const spec::ModelSpec& spec, const std::string& prefix, GgufMetadata& metadata);

}  // namespace moiety::format
