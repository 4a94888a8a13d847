// What each family's config.json says beyond the keys that all share: read into a ModelSpec, and written.
#pragma once

#include "base/json.h"
#include "spec/model_spec.h"

namespace moiety::format {

void read_hf_llama(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_llama(const spec::ModelSpec& spec, Json& config);
void read_hf_mistral(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_mistral(const spec::ModelSpec& spec, Json& config);
void read_hf_qwen3(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_qwen3(const spec::ModelSpec& spec, Json& config);
void read_hf_mixtral(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_mixtral(const spec::ModelSpec& spec, Json& config);
void read_hf_olmoe(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_olmoe(const spec::ModelSpec& spec, Json& config);
void read_hf_qwen3_moe(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_qwen_moe(const spec::ModelSpec& spec, Json& config);
void read_hf_qwen2_moe(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_qwen2_moe(const spec::ModelSpec& spec, Json& config);
void read_hf_glm4(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_glm4(const spec::ModelSpec& spec, Json& config);
void read_hf_dots1(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_dots1(const spec::ModelSpec& spec, Json& config);
void read_hf_minimax(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_minimax(const spec::ModelSpec& spec, Json& config);
void read_hf_deepseek_v2(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_deepseek_v2(const spec::ModelSpec& spec, Json& config);
void read_hf_deepseek_v3(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_deepseek_v3(const spec::ModelSpec& spec, Json& config);
void read_hf_granite(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_granite(const spec::ModelSpec& spec, Json& config);
void read_hf_jetmoe(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_jetmoe(const spec::ModelSpec& spec, Json& config);
void read_hf_gpt_oss(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_gpt_oss(const spec::ModelSpec& spec, Json& config);
void read_hf_phimoe(const JsonObject& config, spec::ModelSpec& spec);
void write_hf_phimoe(const spec::ModelSpec& spec, Json& config);

}  // namespace moiety::format
