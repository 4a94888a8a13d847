// WordPiece: of a word the longest token that it begins with, then the longest that goes on from
// there ("##ing"); a word that can't be taken apart so is unknown.
#pragma once

#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"
#include "text/piece_model.h"

namespace moiety::text {

class WordPiece final : public PieceModel {
 public:
  explicit WordPiece(const spec::TokenizerSpec& spec);

  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;

 private:
  int32_t unknown_;
  int32_t longest_word_;
  ByteTrie first_, next_;  // tokens that begin a word; tokens that go on, without their prefix
};

}  // namespace moiety::text
