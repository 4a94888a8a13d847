// Loss on held-out text, by domain: in nats a token, and in bits a byte of text, which can be compared across
// tokenizers and with compressors.
#pragma once

#include <string>
#include <vector>

#include "train/prepare.h"
#include "train/transformer.h"

namespace moiety::train {

struct DomainScore {
  std::string name;
  double nats_per_token = 0, bits_per_byte = 0;
  uint64_t tokens = 0;
  moe::Load load;  // which experts the domain's text visited
};

// `windows` sequences a domain, spread evenly over its text; 0: all. `sequences` at once.
std::vector<DomainScore> validate(Transformer& model, const PreparedData& data, size_t sequence, size_t sequences,
                                  size_t windows);

}  // namespace moiety::train
