// How often each piece of text (as the pre-tokenizer cuts it) occurs in a corpus.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::text {

struct StringHash {
  using is_transparent = void;  // look-ups by string_view make no string
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using WordCounts = std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>>;

// Longer words are cut into words of this many bytes, which bounds what one strange line costs the
// trainer.
inline constexpr size_t kLongestWord = 256;
// Beyond these the rarest are forgotten.
inline constexpr size_t kMostWords = 2'000'000;

// `done` gets the bytes counted so far, on the caller's thread. The counts do not depend on the
// number of threads.
WordCounts count_words(std::span<const std::string_view> documents,
                       const std::vector<spec::PreTokenizer>& steps, int threads,
                       const std::function<void(size_t done)>& progress);

}  // namespace moiety::text
