// Text to token ids and back: byte-level BPE, the same ids as Hugging Face's tokenizers library
// gives.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "spec/tokenizer_spec.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
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
  // the text.
  std::vector<int32_t> encode(std::string_view text, bool add_special) const;

  // Bytes that are no UTF-8 become U+FFFD, one for each maximal invalid part; unknown ids are left
  // out.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  // The bytes that the id stands for; empty if it stands for none.
  std::string_view token_bytes(int32_t id) const;

  // One more than the greatest id.
  int32_t vocab_size() const { return static_cast<int32_t>(spec_.tokens.size()); }
  // The id of a token by its text in the file ("Ġthe", "<|endoftext|>").
  std::optional<int32_t> find(std::string_view token) const;
  bool is_special(int32_t id) const;

  const spec::TokenizerSpec& spec() const { return spec_; }

 private:
  struct Scratch;
  class ScratchPool;
  void encode_ordinary(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;

  // All constant after construction.
  spec::TokenizerSpec spec_;
  std::string bytes_;                // of all tokens, one after the other
  std::vector<size_t> bytes_begin_;  // where each id's begin, and the end
  std::vector<bool> special_;
  std::unordered_map<std::string_view, int32_t> ids_;  // the keys look into spec_
  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<Splitter> splitter_;
  std::unique_ptr<AddedTokens> added_, added_normalized_;

  std::unique_ptr<ScratchPool> pool_;
};

}  // namespace moiety::text
