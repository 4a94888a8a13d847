// The tokenizer part of a GGUF file's metadata (tokenizer.ggml.*): byte-level BPE, which GGUF calls
// "gpt2", and sentencepiece's two kinds, "llama" and "t5".
#pragma once

#include <vector>

#include "format/gguf.h"
#include "spec/tokenizer_spec.h"

namespace moiety::format {

// Throws Error(Input) for another kind of tokenizer and for a pre-tokenizer that isn't known.
spec::TokenizerSpec read_gguf_tokenizer(const GgufMetadata& metadata);

// Adds the keys. The list of tokens is filled up to `vocab_size`, the rows of the model's
// embedding. `bos_token` is -1 for none; of `eos_tokens` the first is the end of text. Throws
// Error(Input) if GGUF has no words for how this tokenizer normalises and splits text. Which white space added
// tokens take along is not said in GGUF and is lost.
void add_gguf_tokenizer(const spec::TokenizerSpec& spec, int vocab_size, int bos_token,
                        const std::vector<int>& eos_tokens, GgufMetadata& metadata);

}  // namespace moiety::format
