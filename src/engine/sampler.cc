#include "engine/sampler.h"

#include <algorithm>
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

// The tokens that may be drawn, likeliest first, and their probabilities before the last renormalisation.
struct Candidates {
  std::vector<int32_t> tokens;
  std::vector<double> probabilities;
};

Candidates candidates(const SamplingOptions& options, std::span<const float> logits_V) {
  Candidates c;
  c.tokens.resize(logits_V.size());
  std::iota(c.tokens.begin(), c.tokens.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits_V[a] != logits_V[b] ? logits_V[a] > logits_V[b] : a < b;
  };
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < c.tokens.size()) {
    std::nth_element(c.tokens.begin(), c.tokens.begin() + options.top_k, c.tokens.end(), likelier);
    c.tokens.resize(static_cast<size_t>(options.top_k));
  }
  std::sort(c.tokens.begin(), c.tokens.end(), likelier);

  double sum = 0;
  for (const int32_t token : c.tokens) {
    c.probabilities.push_back(std::exp((double{logits_V[token]} - logits_V[c.tokens[0]]) / options.temperature));
    sum += c.probabilities.back();
  }
  for (double& p : c.probabilities) p /= sum;

  size_t keep = c.tokens.size();
  if (options.top_p < 1) {
    double mass = 0;
    for (size_t i = 0; i < keep; ++i) {
      mass += c.probabilities[i];
      if (mass >= options.top_p) keep = i + 1;
    }
  }
  while (keep > 1 && c.probabilities[keep - 1] < options.min_p * c.probabilities[0]) --keep;
  c.tokens.resize(keep);
  c.probabilities.resize(keep);
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
               std::span<const int32_t> generated) {
  std::vector<float> logits(logits_V.begin(), logits_V.end());
  for (const auto& [token, bias] : options.logit_bias) logits[static_cast<size_t>(token)] += bias;
  penalise(options, prompt, generated, logits);
  if (options.temperature == 0) return likeliest(logits);

  const Candidates c = candidates(options, logits);
  const double total = std::accumulate(c.probabilities.begin(), c.probabilities.end(), 0.0);
  double left = Random(options.seed, 0, generated.size()).uniform() * total;
  for (size_t i = 0; i < c.tokens.size(); ++i) {
    left -= c.probabilities[i];
    if (left < 0) return c.tokens[i];
  }
  return c.tokens.back();
}

}  // namespace moiety::engine
