#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace moiety::engine {
namespace {

void penalise(const SamplingOptions& options, std::span<const int32_t> prompt, std::span<const int32_t> generated,
              std::vector<float>& logits_V) {
  if (options.repetition_penalty != 1) {
    std::vector<bool> seen(logits_V.size());
    for (const auto& tokens : {prompt, generated}) {
      for (const int32_t token : tokens) seen[static_cast<size_t>(token)] = true;
    }
    for (size_t v = 0; v < logits_V.size(); ++v) {
      if (seen[v]) logits_V[v] *= logits_V[v] > 0 ? 1 / options.repetition_penalty : options.repetition_penalty;
    }
  }
  if (options.presence_penalty != 0 || options.frequency_penalty != 0) {
    std::vector<int> count(logits_V.size());
    for (const int32_t token : generated) ++count[static_cast<size_t>(token)];
    for (size_t v = 0; v < logits_V.size(); ++v) {
      if (count[v] == 0) continue;
      logits_V[v] -= options.presence_penalty + options.frequency_penalty * static_cast<float>(count[v]);
    }
  }
}

int32_t likeliest(std::span<const float> logits_V) {
  return static_cast<int32_t>(std::max_element(logits_V.begin(), logits_V.end()) - logits_V.begin());
}

// exp(x) for x <= 0, to a few units in the last place: 2^n * 2^f with a polynomial for |f| <= 1/2. Without branches, so that
// the compiler makes vectors of it.
inline float exp_negative(float x) {
  const float y = std::max(x * 1.44269504f, -126.0f);
  const float n = (y + 12582912.0f) - 12582912.0f, f = y - n;  // n: the nearest integer
  float p = 1.54035304e-4f;
  p = p * f + 1.33335581e-3f;
  p = p * f + 9.61812911e-3f;
  p = p * f + 5.55041087e-2f;
  p = p * f + 2.40226507e-1f;
  p = p * f + 6.93147181e-1f;
  p = p * f + 1.0f;
  return x < -87 ? 0.0f : p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// The likeliest tokens, down to this one.
struct Cut {
  float weight = 0;
  int32_t token = 0;
};

// The last of the `count` likeliest of `tokens`, which are put before all others.
Cut last_of(size_t count, std::span<const float> weights, std::vector<int32_t>& tokens) {
  const auto likelier = [&](int32_t a, int32_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; };
  const auto last = tokens.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(tokens.begin(), last, tokens.end(), likelier);
  return {weights[*last], *last};
}

// The last of the likeliest of `tokens` that together have this share of all their weight. Halves what is in question until little is
// left: a flat distribution, of which tens of thousands are kept, takes no longer than a steep one.
Cut last_with(float share, std::span<const float> weights, std::vector<int32_t>& tokens) {
  const auto likelier = [&](int32_t a, int32_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; };
  const auto weight_of = [&](auto first, auto last) {
    double sum = 0;
    for (; first != last; ++first) sum += weights[*first];
    return sum;
  };
  auto first = tokens.begin(), last = tokens.end();
  double wanted = share * weight_of(first, last);
  while (last - first > 32) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, likelier);
    const double upper = weight_of(first, middle);
    if (upper >= wanted) {
      last = middle;
    } else {
      wanted -= upper;
      first = middle;
    }
  }
  std::sort(first, last, likelier);
  for (; last - first > 1; ++first) {
    wanted -= weights[*first];
    if (wanted <= 0) break;
  }
  return {weights[*first], *first};
}

// The weights of tokens that may be drawn, probabilities times anything; those that may not have 0.
std::vector<float> candidates(const SamplingOptions& options, std::span<const float> logits_V) {
  const float largest = *std::max_element(logits_V.begin(), logits_V.end()), sharpness = 1 / options.temperature;
  std::vector<float> weights(logits_V.size());
  for (size_t v = 0; v < weights.size(); ++v) weights[v] = exp_negative((logits_V[v] - largest) * sharpness);

  const bool some = options.top_k > 0 && static_cast<size_t>(options.top_k) < weights.size();
  Cut cut{0, static_cast<int32_t>(weights.size())};
  if (some || options.top_p < 1) {
    std::vector<int32_t> tokens(weights.size());
    std::iota(tokens.begin(), tokens.end(), 0);
    if (some) {
      cut = last_of(static_cast<size_t>(options.top_k), weights, tokens);
      tokens.resize(static_cast<size_t>(options.top_k));
    }
    if (options.top_p < 1) cut = last_with(options.top_p, weights, tokens);
  }
  for (size_t v = 0; v < weights.size(); ++v) {
    const bool kept = weights[v] > cut.weight || (weights[v] == cut.weight && static_cast<int32_t>(v) <= cut.token);
    if (!kept || weights[v] < options.min_p) weights[v] = 0;
  }
  return weights;
}

void require_option(bool ok, const char* sentence) {
  if (!ok) fail(ErrorKind::Usage, "{}", sentence);
}

}  // namespace

void check(const SamplingOptions& o) {
  require_option(o.temperature >= 0 && o.temperature <= 100, "the temperature must be from 0 to 100");
  require_option(o.top_k >= 0, "top-k must be 0 (all) or more");
  require_option(o.top_p > 0 && o.top_p <= 1, "top-p must be more than 0 and at most 1");
  require_option(o.min_p >= 0 && o.min_p <= 1, "min-p must be from 0 to 1");
  require_option(o.repetition_penalty > 0 && o.repetition_penalty <= 100,
                 "the repetition penalty must be more than 0 and at most 100");
  require_option(std::abs(o.presence_penalty) <= 100 && std::abs(o.frequency_penalty) <= 100,
                 "presence and frequency penalties must be from -100 to 100");
}

int32_t sample(const SamplingOptions& options, std::span<const float> logits_V, std::span<const int32_t> prompt,
               std::span<const int32_t> generated, uint64_t draw) {
  std::vector<float> logits(logits_V.begin(), logits_V.end());
  for (const auto& [token, bias] : options.logit_bias) logits[static_cast<size_t>(token)] += bias;
  penalise(options, prompt, generated, logits);
  if (options.temperature == 0) return likeliest(logits);

  const std::vector<float> weights = candidates(options, logits);
  double left = Random(options.seed, draw, generated.size()).uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t drawn = 0;
  for (size_t v = 0; v < weights.size(); ++v) {
    if (weights[v] == 0) continue;
    drawn = v;
    left -= weights[v];
    if (left < 0) break;
  }
  return static_cast<int32_t>(drawn);
}

}  // namespace moiety::engine
