// Which pairs of tokens are joined, and which first: said by a file's list, or to be concluded from
// the tokens' scores.
#pragma once

#include <cstdint>
#include <vector>

#include "spec/tokenizer_spec.h"

namespace moiety::spec {

struct RankedMerge {
  TokenizerSpec::Merge merge;
  int32_t rank = 0;  // the lower is joined first; among equals the leftmost
};

// In the order of their ranks. From scores: every way to cut a token into two tokens, the token of
// the greatest score first, as sentencepiece joins. The spec must have passed check().
std::vector<RankedMerge> ranked_merges(const TokenizerSpec& spec);

// The other way round: scores with which ranked_merges() gives the list's order again. Throws
// Error(Input) if no scores do: the list must have all ways to make each of its tokens.
std::vector<double> scores_of_merges(const TokenizerSpec& spec, const std::string& where);

// A longer token takes no part in joining by scores: looking at all its cuts would take too long.
inline constexpr size_t kLongestScoredToken = 512;

}  // namespace moiety::spec
