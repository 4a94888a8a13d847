// Parts of answers that OpenAI's protocols share.
#pragma once

#include <string_view>
#include <vector>

#include "base/ordered_json.h"
#include "server/answers.h"

namespace moiety::server {

OrderedJson usage_json(const Usage& usage);
// What a conversation would take, counted without answering it.
OrderedJson input_tokens_json(size_t tokens);
// How long it took, in the names that llama.cpp's server gives it.
OrderedJson timings_json(const Ending& ending);

// A token's text as far as it is UTF-8 by itself, and its bytes.
OrderedJson logprob_json(const text::Tokenizer& tokenizer, int32_t token, float logprob);
// {"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}
OrderedJson logprobs_json(const text::Tokenizer& tokenizer, std::span<const ShownToken> tokens);

}  // namespace moiety::server
