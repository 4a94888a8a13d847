// GGUF names a pre-tokenizer (tokenizer.ggml.pre) where tokenizer.json describes it: the table from
// one to the other.
#pragma once

#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::format {

struct GgufPreTokenizer {
  const char* name;
  std::vector<spec::PreTokenizer> steps;
  // As the tokenizer.json of the models that the name stands for has them; GGUF itself doesn't say.
  std::vector<spec::Normalizer> normalizers;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file doesn't say
};

// Null if the name isn't known.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

// The row that splits as the spec does, best one with the same normalisation; null if there is
// none. Files written with it are read by llama.cpp, which never normalises, so NFC or nothing are
// taken for each other.
const GgufPreTokenizer* gguf_pre_tokenizer_of(const spec::TokenizerSpec& spec);

}  // namespace moiety::format
