// Text to token ids and back: the same ids as Hugging Face's tokenizers library and sentencepiece
// give.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text_index.h"
#include "spec/tokenizer_spec.h"
#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/piece_model.h"
#include "text/splitter.h"

namespace moiety::text {

// Any number of threads may use one Tokenizer at the same time.
class Tokenizer {
 public:
  // The spec must have passed spec::check. Throws Error(Input) for a pattern that can't be
  // compiled.
  explicit Tokenizer(spec::TokenizerSpec spec);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Invalid UTF-8 is read as U+FFFD. `add_special` puts the tokenizer's prefix and suffix around
  // the text. `plain` are offsets in bytes, ascending: no token that is found whatever stands around
  // it reaches across one of them, so that a text which spells such a token stays text.
  std::vector<int32_t> encode(std::string_view text, bool add_special,
                              std::span<const size_t> plain = {}) const;

  // Offsets behind the first character of each text in it that spells a special token of two
  // characters or more.
  std::vector<size_t> special_texts(std::string_view text) const;

  // Bytes that are no UTF-8 become U+FFFD, one for each maximal invalid part unless the decoder says
  // otherwise; unknown ids are left out.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  // The text of the token as the file has it; null if the id has none.
  const std::string* token(int32_t id) const;
  // The bytes that the id stands for in the middle of a text; empty if it stands for none.
  std::string_view token_bytes(int32_t id) const;

  // One more than the greatest id.
  int32_t vocab_size() const { return static_cast<int32_t>(spec_.tokens.size()); }
  // The id of a token by its text in the file ("Ġthe", "<|endoftext|>").
  std::optional<int32_t> find(std::string_view token) const;
  bool is_special(int32_t id) const;

  const spec::TokenizerSpec& spec() const { return spec_; }
  const Decoder& decoder() const { return *decoder_; }

 private:
  struct Scratch;
  class ScratchPool;
  void encode_ordinary(std::string_view text, bool at_start, Scratch& scratch,
                       std::vector<int32_t>& ids) const;
  std::unique_ptr<PieceModel> make_model() const;

  // All constant after construction.
  spec::TokenizerSpec spec_;
  std::string bytes_;                // of all tokens, one after the other
  std::vector<size_t> bytes_begin_;  // where each id's begin, and the end
  std::vector<bool> special_;
  TextIndex ids_;  // the texts lie in spec_
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<PieceModel> model_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<Splitter> splitter_;
  std::unique_ptr<AddedTokens> added_, added_normalized_, special_texts_;

  std::unique_ptr<ScratchPool> pool_;
};

}  // namespace moiety::text
