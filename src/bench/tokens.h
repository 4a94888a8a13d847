// Token ids to run models on: a function of the place where they are fed, so that other programs can be fed the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moiety::bench {

enum class TokenKind {
  Random,  // each for itself
  Topics,  // a sequence stays in a topic (format/synthetic_router.h) for kTopicStay tokens on average, as texts do
};

constexpr int kTopicStay = 32;

struct TokenPlace {
  size_t round = 0, number = 0, sequence = 0;  // number: of the case
};

std::vector<int32_t> draw_tokens(TokenKind kind, int vocabulary, const TokenPlace& place, size_t count);

}  // namespace moiety::bench
