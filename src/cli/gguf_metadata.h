// The metadata of a GGUF file that is made of a model: its configuration, tokenizer and chat templates.
#pragma once

#include "format/families.h"
#include "format/model_file.h"

namespace moiety::cli {

// `type` is the one that most matrices have in the file `out`.
format::GgufMetadata gguf_metadata(const format::ModelFile& model, const format::Family& family, spec::ElementType type,
                                   const fs::path& out);

}  // namespace moiety::cli
