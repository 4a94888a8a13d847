// sentencepiece's .model file (tokenizer.model): BPE and Unigram.
#pragma once

#include <string>
#include <string_view>

#include "spec/tokenizer_spec.h"

namespace moiety::format {

// The ids are those of sentencepiece's own library, but control symbols ("<s>") written in the text
// are recognised. The file doesn't say what to put around a text: models of BPE get <s> before it
// and those of Unigram </s> behind it, as Llama's and T5's kinds do, unless
// apply_tokenizer_config() knows better. Throws Error(Input). `where` is the file's name.
spec::TokenizerSpec read_sentencepiece(std::string_view bytes, const std::string& where);

// What tokenizer_config.json beside the file says of it: add_bos_token, add_eos_token, and tokens
// added to the file's (added_tokens_decoder).
void apply_tokenizer_config(std::string_view text, const std::string& where,
                            spec::TokenizerSpec& spec);

}  // namespace moiety::format
