#include "engine/continuations.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/error.h"
#include "engine/distribution.h"
#include "engine/generate.h"

namespace moiety::engine {
namespace {

double log_probability(std::span<const float> logits_V, int32_t token) {
  const Weights weights(logits_V, 1);
  return logits_V[static_cast<size_t>(token)] - weights.largest() - std::log(weights.sum());
}

size_t common_length(std::span<const std::vector<int32_t>> sequences) {
  size_t length = sequences[0].size();
  for (const auto& sequence : sequences) {
    const auto differ = std::ranges::mismatch(sequence, sequences[0]).in1;
    length = std::min(length, static_cast<size_t>(differ - sequence.begin()));
  }
  return length;
}

}  // namespace

std::vector<double> score_sequences(model::Transformer& transformer, std::span<const std::vector<int32_t>> sequences, kernel::KvType kv) {
  const size_t common = common_length(sequences);
  assert(common > 0);
  size_t longest = 0;
  for (const auto& sequence : sequences) longest = std::max(longest, sequence.size());
  require(longest <= static_cast<size_t>(transformer.spec().max_positions), "a text of {} tokens does not fit the model's context of {}", longest,
          transformer.spec().max_positions);

  model::KvCache cache(transformer.spec(), {longest, kv, longest});
  const model::Chunk shared{&cache, std::span(sequences[0]).first(common), 1};
  const Matrix<float> after_shared = transformer.forward({&shared, 1});
  std::vector<double> scores;
  for (const auto& sequence : sequences) {
    const auto rest = std::span(sequence).subspan(common);
    double score = rest.empty() ? 0 : log_probability(after_shared.row(0), rest[0]);
    if (rest.size() > 1) {
      const auto inputs = rest.first(rest.size() - 1);
      const model::Chunk chunk{&cache, inputs, inputs.size()};
      const Matrix<float> logits = transformer.forward({&chunk, 1});
      for (size_t t = 0; t < inputs.size(); ++t) score += log_probability(logits.row(t), rest[t + 1]);
      cache.truncate(common);
    }
    scores.push_back(score);
  }
  return scores;
}

std::vector<double> score_continuations(model::Transformer& transformer, const text::Tokenizer& tokenizer, std::string_view prompt,
                                        std::span<const std::string> continuations, kernel::KvType kv) {
  std::vector<std::vector<int32_t>> sequences;
  for (const std::string& continuation : continuations) {
    sequences.push_back(document_tokens(tokenizer, std::string(prompt) + continuation, transformer.spec()));
  }
  return score_sequences(transformer, sequences, kv);
}

}  // namespace moiety::engine
