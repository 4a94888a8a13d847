// Next-byte accuracy: of how many bytes of a text the model holds the true one for the likeliest. It can be compared across
// tokenizers, as bits per byte can, and is easier to picture.
//
// A model predicts tokens. Within one prediction the next byte's distribution is taken over all tokens that begin with the bytes of
// the true token read so far and go on: the sum of their probabilities by their next byte. At the first byte of a token that is
// exact, given where tokens begin. Further in, the model is told that the token has not ended: the probability that the text went on
// with another token there is left out, since it would take a forward pass for each prefix of each token.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/accuracy.h"

namespace moiety::engine {

struct ByteAccuracy {
  Accuracy all;    // every byte
  Accuracy first;  // the first bytes of tokens alone

  void add(const ByteAccuracy& other);
};

// The tokens of a vocabulary in the order of their bytes.
class ByteVocabulary {
 public:
  // The bytes that each id stands for; empty if none. They must outlive this.
  explicit ByteVocabulary(std::vector<std::string_view> bytes_V);

  // Which bytes of `token` were predicted by logits_V; nothing for a token without bytes. Logits beyond the vocabulary are left out.
  // Of bytes that are equally likely the lowest counts as predicted.
  ByteAccuracy score(std::span<const float> logits_V, int32_t token) const;

 private:
  std::vector<std::string_view> bytes_V_;
  std::vector<int32_t> sorted_;  // ids with bytes, by their bytes
};

}  // namespace moiety::engine
