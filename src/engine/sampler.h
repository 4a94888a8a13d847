// From logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace moiety::engine {

struct SamplingOptions {
  float temperature = 1.0f;  // 0: greedy
  int top_k = 0;             // only the k likeliest; 0: all
  float top_p = 1.0f;        // only the likeliest that together have this probability (Holtzman et al. 2020)
  float min_p = 0.0f;        // only those at least this share as likely as the likeliest
  float repetition_penalty = 1.0f;  // divides positive and multiplies negative logits of tokens seen (Keskar et al. 2019)
  float presence_penalty = 0.0f;    // taken off the logit of tokens generated so far
  float frequency_penalty = 0.0f;   // … once for each time
  std::vector<std::pair<int32_t, float>> logit_bias;  // (token, what is added to its logit), before everything else
  uint64_t seed = 0;
};

// Throws Error(Usage) naming the option that makes no sense.
void check(const SamplingOptions& options);

// The token after `prompt` and `generated`. A pure function: the randomness is that of (seed, how many were generated, `draw`,
// which tells draws for the same place apart).
// Order: biases, penalties, temperature, top-k, top-p, min-p. Ties go to the lower id.
int32_t sample(const SamplingOptions& options, std::span<const float> logits_V, std::span<const int32_t> prompt,
               std::span<const int32_t> generated, uint64_t draw = 0);

}  // namespace moiety::engine
