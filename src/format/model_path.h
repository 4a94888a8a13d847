// What a person may write for MODEL, and the file or folder it means.
#pragma once

#include "base/file.h"

namespace moiety::format {

// A Hugging Face folder, a checkpoint folder or a GGUF file is returned as it is; a training run's folder becomes its
// newest complete checkpoint. Throws Error(Input) saying what was looked for if it is none of these.
fs::path resolve_model_path(const fs::path& path);

}  // namespace moiety::format
