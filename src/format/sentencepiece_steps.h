// What sentencepiece does before and after it splits, and the several ways in which files say it.
#pragma once

#include <optional>
#include <string>

#include "spec/tokenizer_spec.h"

namespace moiety::format {

struct SentencepieceSteps {
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
};

// Spaces at the beginning and the end, where sentencepiece takes a ▁ for one; not ^ and $, which are the ends of lines.
inline constexpr const char* kTrimPattern = "(?<![\\s\\S]) +|[ ▁]+(?![\\s\\S])";

// Sets the normalisers and decoders.
void set_sentencepiece_steps(const SentencepieceSteps& steps, spec::TokenizerSpec& spec);

// The other way round, for set_sentencepiece_steps()' own steps and for those that tokenizer.json
// files of Llama, Gemma, T5 and their kin have; nothing for any others. A Metaspace that puts a
// space only before the very first text, or only where none is, is taken for one that always does:
// GGUF knows no other.
std::optional<SentencepieceSteps> sentencepiece_steps_of(const spec::TokenizerSpec& spec);

}  // namespace moiety::format
