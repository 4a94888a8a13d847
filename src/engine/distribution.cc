#include "engine/distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/exponential.h"

namespace moiety::engine {
namespace {

constexpr size_t kLanes = 16;
constexpr float kLeastPower = -87.0f;  // below it exp is next to nothing: such tokens are never drawn

inline float weight_of(float logit, float largest, float sharpness, float least) {
  const float power = (logit - largest) * sharpness, weight = power < kLeastPower ? 0.0f : exp_of(power);
  return weight < least ? 0.0f : weight;
}

}  // namespace

float largest_of(std::span<const float> logits_V) {
  // A maximum a lane: a single one would wait for itself.
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, logits_V.front());
  size_t v = 0;
  for (; v + kLanes <= logits_V.size(); v += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = logits_V[v + lane] > lanes[lane] ? logits_V[v + lane] : lanes[lane];
  }
  for (; v < logits_V.size(); ++v) lanes[0] = std::max(lanes[0], logits_V[v]);
  return *std::max_element(lanes, lanes + kLanes);
}

int32_t likeliest_of(std::span<const float> logits_V) {
  return static_cast<int32_t>(std::ranges::find(logits_V, largest_of(logits_V)) - logits_V.begin());
}

std::vector<int32_t> likeliest_of(std::span<const float> logits_V, size_t count) {
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits_V[static_cast<size_t>(a)] != logits_V[static_cast<size_t>(b)] ? logits_V[static_cast<size_t>(a)] > logits_V[static_cast<size_t>(b)]
                                                                               : a < b;
  };
  count = std::min(count, logits_V.size());
  std::vector<int32_t> best;
  if (count == 0) return best;
  // Those that are likelier than the least likely of the best so far; when there are many too many, the best of them.
  const size_t most = 2 * count + 256;
  const auto keep_best = [&] {
    if (best.size() <= count) return;
    std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count - 1), best.end(), likelier);
    best.resize(count);
  };
  bool has_bound = false;
  float bound = 0;
  for (size_t v = 0; v < logits_V.size(); v += Weights::kBlock) {
    const auto block = logits_V.subspan(v, std::min(Weights::kBlock, logits_V.size() - v));
    if (has_bound && !(largest_of(block) > bound)) continue;
    for (size_t i = 0; i < block.size(); ++i) {
      if (!has_bound || block[i] > bound) best.push_back(static_cast<int32_t>(v + i));
    }
    if (best.size() < most) continue;
    keep_best();
    has_bound = true;
    bound = logits_V[static_cast<size_t>(best.back())];
  }
  keep_best();
  std::ranges::sort(best, likelier);
  return best;
}

Weights::Weights(std::span<const float> logits_V, float sharpness, float least)
    : logits_V_(logits_V), sharpness_(sharpness), least_(least), largest_(largest_of(logits_V)) {
  for (size_t first = 0; first < logits_V.size(); first += kBlock) {
    const size_t last = std::min(first + kBlock, logits_V.size());
    float lanes[kLanes] = {};
    size_t v = first;
    for (; v + kLanes <= last; v += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += weight_of(logits_V[v + lane], largest_, sharpness, least);
    }
    for (; v < last; ++v) lanes[0] += weight_of(logits_V[v], largest_, sharpness, least);
    block_sums_.push_back(std::accumulate(lanes, lanes + kLanes, 0.0));
    sum_ += block_sums_.back();
  }
}

std::vector<int32_t> Weights::at_least(double weight) const {
  // By their logits, a little more than too few: what is on the edge doesn't matter to who asks
  const double bound = weight > 0 ? largest_ + (std::log(weight) - 1e-3) / sharpness_ : -std::numeric_limits<double>::infinity();
  std::vector<int32_t> tokens;
  for (size_t first = 0; first < logits_V_.size(); first += kBlock) {
    const auto block = logits_V_.subspan(first, std::min(kBlock, logits_V_.size() - first));
    if (largest_of(block) < bound) continue;
    for (size_t i = 0; i < block.size(); ++i) {
      if (block[i] >= bound) tokens.push_back(static_cast<int32_t>(first + i));
    }
  }
  return tokens;
}

float Weights::of(size_t token) const { return weight_of(logits_V_[token], largest_, sharpness_, least_); }

int32_t Weights::at(double point) const {
  size_t block = 0;
  while (block + 1 < block_sums_.size() && point >= block_sums_[block]) point -= block_sums_[block++];
  // Sums of blocks and of their tokens one by one are rounded otherwise: what is left over is the last token's that has a weight
  while (block > 0 && block_sums_[block] == 0) --block;
  size_t drawn = block * kBlock;
  for (size_t v = drawn; v < std::min((block + 1) * kBlock, logits_V_.size()); ++v) {
    const float weight = of(v);
    if (weight == 0) continue;
    drawn = v;
    point -= weight;
    if (point < 0) break;
  }
  return static_cast<int32_t>(drawn);
}

}  // namespace moiety::engine
