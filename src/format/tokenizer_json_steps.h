// The steps of a tokenizer.json around its model: normalizer, pre_tokenizer, decoder,
// post_processor.
#pragma once

#include "base/json.h"
#include "spec/tokenizer_spec.h"

namespace moiety::format {

// Sets normalizers, pre_tokenizers, decoders, prefix and suffix. Throws Error(Input) naming what
// isn't supported and what is.
void read_steps(const JsonObject& file, spec::TokenizerSpec& spec);

}  // namespace moiety::format
