// How likely a model holds each of some continuations of a text: the way to ask it a question with given answers.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/transformer.h"
#include "text/tokenizer.h"

namespace moiety::engine {

// Natural logarithms of the probabilities of prompt + continuation, up to a summand that all share. Text is tokenised as a whole, so
// that a continuation may change how the prompt's end is cut; what all have in common is computed once. Throws Error(Input) if a text
// doesn't fit the model's context.
std::vector<double> score_continuations(model::Transformer& transformer, const text::Tokenizer& tokenizer, std::string_view prompt,
                                        std::span<const std::string> continuations, kernel::KvType kv = kernel::KvType::F32);

// The same of token sequences; at least one, all beginning with the same token.
std::vector<double> score_sequences(model::Transformer& transformer, std::span<const std::vector<int32_t>> sequences,
                                    kernel::KvType kv = kernel::KvType::F32);

}  // namespace moiety::engine
