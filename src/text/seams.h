// Where a text may be cut before byte-pair encoding without changing a token: between two
// characters that no merge ever joins. sentencepiece's tokenizers give a whole document as one
// piece; cut into words it is encoded many times as fast.
#pragma once

#include <optional>
#include <span>

#include "spec/merges.h"
#include "text/characters.h"
#include "text/pair_table.h"

namespace moiety::text {

class Seams {
 public:
  // Of merges over characters whose tokens are in `characters`.
  Seams(const spec::TokenizerSpec& spec, std::span<const spec::RankedMerge> merges,
        const CharacterTable& characters);

  // Between the tokens of two characters that stand side by side.
  bool between(int32_t left, int32_t right) const {
    return usable_ && pairs_.find(left, right) == nullptr;
  }

 private:
  bool usable_;
  PairTable pairs_;  // of the tokens of characters that some merge joins
};

}  // namespace moiety::text
