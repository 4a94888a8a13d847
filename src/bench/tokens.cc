#include "bench/tokens.h"

#include "base/random.h"
#include "format/synthetic_router.h"

namespace moiety::bench {

std::vector<int32_t> draw_tokens(TokenKind kind, int vocabulary, const TokenPlace& place, size_t count) {
  Random random(1, (place.round << 40) | (place.number << 20) | place.sequence);
  const format::TokenRange all{0, vocabulary};
  const auto draw = [&](format::TokenRange from) {
    return from.begin + static_cast<int>(random.below(static_cast<uint64_t>(from.end - from.begin)));
  };
  format::TokenRange topic = all;
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) {
    const bool turns = kind == TokenKind::Topics && (i == 0 || random.below(kTopicStay) == 0);
    if (turns) topic = format::topic_around(draw(all), vocabulary);
    tokens[i] = draw(topic);
  }
  return tokens;
}

}  // namespace moiety::bench
