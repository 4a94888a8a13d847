#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/error.h"
#include "base/random.h"
#include "engine/distribution.h"

namespace moiety::engine {
namespace {

// Below it the likeliest is drawn anyway.
constexpr float kColdest = 1e-6f;

void penalise(const SamplingOptions& options, std::span<const int32_t> prompt, std::span<const int32_t> generated,
              std::vector<float>& logits_V) {
  const auto each_once = [&](std::initializer_list<std::span<const int32_t>> lists, const auto& body) {
    std::vector<bool> seen(logits_V.size());
    for (const auto& tokens : lists) {
      for (const int32_t token : tokens) {
        if (seen[static_cast<size_t>(token)]) continue;
        seen[static_cast<size_t>(token)] = true;
        body(logits_V[static_cast<size_t>(token)]);
      }
    }
  };
  if (options.repetition_penalty != 1) {
    each_once({prompt, generated}, [&](float& logit) { logit *= logit > 0 ? 1 / options.repetition_penalty : options.repetition_penalty; });
  }
  if (options.presence_penalty != 0) each_once({generated}, [&](float& logit) { logit -= options.presence_penalty; });
  if (options.frequency_penalty == 0) return;
  for (const int32_t token : generated) logits_V[static_cast<size_t>(token)] -= options.frequency_penalty;
}

bool chooses_top_k(const SamplingOptions& options, size_t vocabulary) {
  return options.top_k > 0 && static_cast<size_t>(options.top_k) < vocabulary;
}

// How many of the likeliest of `tokens` together weigh so much. Halves what is in question until little is
// left: a flat distribution, of which tens of thousands are kept, takes no longer than a steep one. The likeliest come first
// afterwards.
size_t count_with(double wanted, const Weights& weights, std::vector<int32_t>& tokens) {
  std::vector<std::pair<float, int32_t>> all;  // the weight negated: the likeliest first, equals by rising id
  for (const int32_t token : tokens) all.push_back({-weights.of(static_cast<size_t>(token)), token});
  const auto weight_of = [&](auto first, auto last) {
    double sum = 0;
    for (; first != last; ++first) sum -= first->first;
    return sum;
  };
  auto first = all.begin(), last = all.end();
  while (last - first > 32) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last);
    const double upper = weight_of(first, middle);
    if (upper >= wanted) {
      last = middle;
    } else {
      wanted -= upper;
      first = middle;
    }
  }
  std::sort(first, last);
  for (; last - first > 1; ++first) {
    wanted += first->first;
    if (wanted <= 0) break;
  }
  std::ranges::transform(all, tokens.begin(), [](const auto& pair) { return pair.second; });
  return static_cast<size_t>(first - all.begin()) + 1;
}

// The likeliest tokens that together have the share top_p of all, or of the top_k likeliest.
std::vector<int32_t> candidates(const SamplingOptions& options, std::span<const float> logits_V, const Weights& weights) {
  std::vector<int32_t> tokens;
  double sum = weights.sum();
  if (chooses_top_k(options, logits_V.size())) {
    tokens = likeliest_of(logits_V, static_cast<size_t>(options.top_k));
    sum = 0;
    for (const int32_t token : tokens) sum += weights.of(static_cast<size_t>(token));
  } else {
    // All that are lighter than this together weigh less than what is not asked for.
    tokens = weights.at_least((1 - static_cast<double>(options.top_p)) * sum / static_cast<double>(logits_V.size()));
  }
  if (options.top_p < 1) tokens.resize(count_with(options.top_p * sum, weights, tokens));
  return tokens;
}

// One of them, by weight; `point` is from 0 to 1.
int32_t draw_of(std::vector<int32_t> tokens, double point, float min_p, const Weights& weights) {
  std::ranges::sort(tokens);
  std::erase_if(tokens, [&](int32_t token) { return weights.of(static_cast<size_t>(token)) < min_p; });
  double left = 0;
  for (const int32_t token : tokens) left += weights.of(static_cast<size_t>(token));
  left *= point;
  for (const int32_t token : tokens) {
    left -= weights.of(static_cast<size_t>(token));
    if (left < 0) return token;
  }
  return tokens.back();
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
  std::vector<float> changed;
  if (!options.logit_bias.empty() || options.repetition_penalty != 1 || options.presence_penalty != 0 || options.frequency_penalty != 0) {
    changed.assign(logits_V.begin(), logits_V.end());
    for (const auto& [token, bias] : options.logit_bias) changed[static_cast<size_t>(token)] += bias;
    penalise(options, prompt, generated, changed);
    logits_V = changed;
  }
  if (options.temperature == 0) return likeliest_of(logits_V);

  const double point = Random(options.seed, draw, generated.size()).uniform();
  const bool all_may = !chooses_top_k(options, logits_V.size()) && options.top_p == 1;
  const Weights weights(logits_V, 1 / std::max(options.temperature, kColdest), all_may ? options.min_p : 0);
  if (all_may) return weights.at(point * weights.sum());
  return draw_of(candidates(options, logits_V, weights), point, options.min_p, weights);
}

}  // namespace moiety::engine
