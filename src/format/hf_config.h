// A Hugging Face folder's config.json and generation_config.json.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "format/families.h"
#include "spec/model_spec.h"

namespace moiety::format {

// Reads FOLDER/config.json (a family's, or our own with model_type "moiety") and, where present,
// FOLDER/generation_config.json, whose eos_token_id adds to the config's.
spec::ModelSpec read_hf_config(const fs::path& folder);
// The same of a config.json's text; `where` is the file's name.
spec::ModelSpec parse_hf_config(std::string_view text, const std::string& where);

// Rows and columns that share a scale in a checkpoint of block-scaled F8_E4M3 weights.
std::pair<int64_t, int64_t> fp8_block(const fs::path& folder);

// config.json of `spec` as `family` (which must express it) with weights of `type`.
Json hf_config(const spec::ModelSpec& spec, const Family& family, spec::ElementType type);
Json hf_generation_config(const spec::ModelSpec& spec);

}  // namespace moiety::format
