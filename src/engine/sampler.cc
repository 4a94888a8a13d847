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

// The tokens that may be drawn and their probabilities times anything.
struct Candidates {
  std::vector<int32_t> tokens;  // empty: all, in the order of their numbers
  std::vector<float> weights;
};

// The likeliest that together have this share of the weight of all, likeliest first.
std::vector<int32_t> likeliest_with(float share, std::span<const float> weights, std::vector<int32_t> tokens) {
  const auto likelier = [&](int32_t a, int32_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; };
  double all = 0;
  for (const int32_t token : tokens) all += weights[token];
  for (size_t sorted = 0, more = 64; sorted < tokens.size(); more *= 4) {  // few are enough mostly
    const size_t end = std::min(tokens.size(), sorted + more);
    if (end < tokens.size()) std::nth_element(tokens.begin() + sorted, tokens.begin() + end, tokens.end(), likelier);
    std::sort(tokens.begin() + sorted, tokens.begin() + end, likelier);
    sorted = end;
    double mass = 0;
    for (size_t i = 0; i < sorted; ++i) {
      mass += weights[tokens[i]];
      if (mass < share * all) continue;
      tokens.resize(i + 1);
      return tokens;
    }
  }
  return tokens;
}

Candidates candidates(const SamplingOptions& options, std::span<const float> logits_V) {
  const float largest = *std::max_element(logits_V.begin(), logits_V.end()), sharpness = 1 / options.temperature;
  std::vector<float> weights(logits_V.size());
  for (size_t v = 0; v < weights.size(); ++v) weights[v] = exp_negative((logits_V[v] - largest) * sharpness);
  const bool some = options.top_k > 0 && static_cast<size_t>(options.top_k) < weights.size();
  if (!some && options.top_p >= 1 && options.min_p <= 0) return {{}, std::move(weights)};

  Candidates c;
  for (size_t v = 0; v < weights.size(); ++v) {
    if (weights[v] > 0 && (some || weights[v] >= options.min_p)) c.tokens.push_back(static_cast<int32_t>(v));
  }
  if (some && static_cast<size_t>(options.top_k) < c.tokens.size()) {
    const auto likelier = [&](int32_t a, int32_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; };
    std::nth_element(c.tokens.begin(), c.tokens.begin() + options.top_k, c.tokens.end(), likelier);
    c.tokens.resize(static_cast<size_t>(options.top_k));
  }
  if (options.top_p < 1) c.tokens = likeliest_with(options.top_p, weights, std::move(c.tokens));
  std::erase_if(c.tokens, [&](int32_t token) { return weights[token] < options.min_p; });
  std::ranges::sort(c.tokens);
  for (const int32_t token : c.tokens) c.weights.push_back(weights[token]);
  return c;
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

  const Candidates c = candidates(options, logits);
  double left = Random(options.seed, draw, generated.size()).uniform() * std::accumulate(c.weights.begin(), c.weights.end(), 0.0);
  size_t drawn = 0;
  for (size_t i = 0; i < c.weights.size(); ++i) {
    if (c.weights[i] == 0) continue;
    drawn = i;
    left -= c.weights[i];
    if (left < 0) break;
  }
  return c.tokens.empty() ? static_cast<int32_t>(drawn) : c.tokens[drawn];
}

}  // namespace moiety::engine
