// tokenizer.json, the file of Hugging Face's tokenizers library: byte-level BPE.
#pragma once

#include <string>
#include <string_view>

#include "spec/tokenizer_spec.h"

namespace moiety::format {

// Throws Error(Input) for what isn't valid and for what isn't byte-level BPE. `where` is the file's
// name.
spec::TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& where);

// The text of a file that the library loads and that gives the same ids there.
std::string write_tokenizer_json(const spec::TokenizerSpec& spec);

}  // namespace moiety::format
