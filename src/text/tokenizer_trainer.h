// Learns a byte-level BPE tokenizer from text: the most frequent pair of neighbours becomes a
// token, again and again (Sennrich et al. 2016). The same text and options give the same tokenizer
// whatever the number of threads.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::text {

struct TrainerOptions {
  int vocab_size =
      4096;  // special tokens and the 256 bytes included; fewer if the text gives no more
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  int min_count = 2;  // of a pair that becomes a token
  std::vector<spec::PreTokenizer> pre_tokenizers = {spec::PreTokenizer{}};  // GPT-2's by default
  int threads = 0;  // to count words with; 0: one a hardware thread
};

// Called on the caller's thread: "count words" in bytes, then "learn tokens" in tokens.
using TrainerProgress = std::function<void(std::string_view stage, double done, double total)>;

// Ids: the special tokens, the 256 bytes, then what was learnt in the order of learning. Documents
// are plain text: special tokens are not looked for in them. Ties go to the pair of smaller ids. A
// pair whose text is a token already stays apart, so that every token is made in one way. Throws
// Error(Input) if vocab_size has no room for the bytes.
spec::TokenizerSpec train_tokenizer(std::span<const std::string_view> documents,
                                    const TrainerOptions& options = {},
                                    const TrainerProgress& progress = {});

}  // namespace moiety::text
