// Cuts a piece of text into the tokens of the greatest summed score (logarithms of probabilities):
// the best path through all tokens that occur in it. Time linear in the piece.
#pragma once

#include <array>

#include "spec/tokenizer_spec.h"
#include "text/byte_trie.h"
#include "text/piece_model.h"

namespace moiety::text {

class Unigram final : public PieceModel {
 public:
  explicit Unigram(const spec::TokenizerSpec& spec);

  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;

 private:
  void find_paths(std::string_view piece, Scratch& scratch) const;
  double score_of(int32_t id, size_t length) const;
  void append_tokens(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  bool like_sentencepiece_;
  std::array<int32_t, 256> byte_tokens_;
  int32_t unknown_;
  bool fuse_unknown_;
  std::vector<double> scores_;
  double unknown_score_;
  double greatest_score_;  // a user-defined token is worth more
  std::vector<bool> user_defined_;
  ByteTrie trie_;
};

}  // namespace moiety::text
