// From a sequence's logits to its next tokens.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "engine/sequence.h"

namespace moiety::engine {

// The tokens that follow what a sequence has said, one by one: logits_RV are those after its last token, and after each of
// `drafted`. As many come as were drafted rightly, and one more; none after a token that ends the text. A sequence's
// constraint, if it has one, is told of them.
std::vector<NewToken> choose_tokens(const Sequence& sequence, std::span<const int32_t> drafted, MatrixView<const float> logits_RV);

// Of `token` and of the `top` likeliest.
NewToken with_logprobs(int32_t token, std::span<const float> logits_V, size_t top);

bool is_stop(const Sequence& sequence, int32_t token);

}  // namespace moiety::engine
