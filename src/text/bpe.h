// Byte-pair encoding of one piece of text: bytes or characters become ids, then the pair that was
// learnt first is joined, again and again. Time n log n for a piece of n bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text_index.h"
#include "spec/merges.h"
#include "spec/tokenizer_spec.h"
#include "text/characters.h"
#include "text/pair_table.h"
#include "text/piece_model.h"
#include "text/seams.h"

namespace moiety::text {

class Bpe final : public PieceModel {
 public:
  // `whole_pieces`: pieces that are taken as they are, whatever the merges say; empty in most
  // tokenizers. Their texts must outlive this.
  Bpe(const spec::TokenizerSpec& spec, TextIndex whole_pieces);

  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const override;

 private:
  Bpe(const spec::TokenizerSpec& spec, TextIndex whole_pieces,
      const std::vector<spec::RankedMerge>& merges);
  void encode_between_seams(std::string_view part, Scratch& scratch,
                            std::vector<int32_t>& ids) const;
  void encode_uncached(std::string_view part, Scratch& scratch, std::vector<int32_t>& ids) const;
  size_t next_seam(std::string_view piece, size_t at) const;
  const CharacterTable& characters(bool is_first, bool is_last) const;
  void append_bytes(std::string_view piece, std::vector<int32_t>& ids) const;
  void append_characters(std::string_view piece, std::vector<int32_t>& ids) const;
  bool append_fallback(std::string_view character, bool is_first, bool is_last,
                       std::vector<int32_t>& ids) const;
  void join_few(std::vector<int32_t>& ids, size_t first) const;
  void join_many(Scratch& scratch, std::vector<int32_t>& ids, size_t first) const;

  bool of_bytes_;
  std::array<int32_t, 256> byte_ids_;        // -1: no token
  std::vector<CharacterTable> characters_;   // one, or four where words have a prefix or suffix
  int32_t unknown_;
  bool fuse_unknown_;
  std::string word_prefix_, word_suffix_;
  PairTable merges_;
  std::optional<Seams> seams_;
  TextIndex whole_pieces_;
};

}  // namespace moiety::text
