#include "server/token_grammar.h"

#include <algorithm>

#include "base/error.h"

namespace moiety::server {

TokenGrammar::TokenGrammar(std::shared_ptr<grammar::CompiledGrammar> grammar, std::vector<int32_t> stop_tokens)
    : position_(std::move(grammar)), stop_tokens_(std::move(stop_tokens)) {
  require(!stop_tokens_.empty(), "grammar: the model has no token that ends a text");
}

bool TokenGrammar::is_stop(int32_t token) const {
  return std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end();
}

bool TokenGrammar::allows(int32_t token) {
  return is_stop(token) ? position_.may_end() : position_.allows(token);
}

void TokenGrammar::mask(std::span<float> logits_V) {
  std::vector<std::pair<size_t, float>> stops;
  for (const int32_t token : stop_tokens_) {
    const auto place = static_cast<size_t>(token);
    if (token >= 0 && place < logits_V.size()) stops.emplace_back(place, logits_V[place]);
  }
  const bool goes_on = position_.mask(logits_V);
  const bool ends = position_.may_end();
  require(goes_on || ends, "grammar: the model's vocabulary has no token for what must come next");
  for (const auto& [place, logit] : stops) logits_V[place] = ends ? logit : -std::numeric_limits<float>::infinity();
}

void TokenGrammar::accept(int32_t token) {
  if (!is_stop(token)) {
    position_.accept(token);
  } else {
    require(position_.may_end(), "grammar: the text ended where it may not");
  }
}

}  // namespace moiety::server
