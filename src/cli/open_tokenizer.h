// The tokenizer that comes with a model.
#pragma once

#include <optional>

#include "base/file.h"
#include "text/tokenizer.h"

namespace moiety::cli {

// `model` is a tokenizer.json, a sentencepiece .model, a GGUF file, or anything that
// format::resolve_model_path takes.
// Throws Error(Input) if there is no tokenizer, or one that isn't valid.
text::Tokenizer open_tokenizer(const fs::path& model);

// The same, but nothing for a model that comes without a tokenizer.
std::optional<text::Tokenizer> find_tokenizer(const fs::path& model);

}  // namespace moiety::cli
