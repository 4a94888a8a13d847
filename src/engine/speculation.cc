#include "engine/speculation.h"

#include <algorithm>
#include <cmath>

namespace moiety::engine {
namespace {

constexpr size_t kGram = 3;        // tokens that must have come before
constexpr size_t kMostDrafted = 6;
constexpr double kWorth = 1.05;    // times as fast
constexpr double kFading = 0.98;   // a step
constexpr double kLearning = 0.1;
constexpr size_t kTryAgain = 128;  // refusals

uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t token : tokens) hash = (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15;
  return hash;
}

}  // namespace

std::vector<int32_t> Drafter::draft(std::span<const int32_t> tokens, size_t most) {
  if (tokens.size() < kGram || most == 0) return {};
  // All that have a token after them.
  for (size_t end = std::max(known_, kGram); end < tokens.size(); ++end) {
    next_[hash_of(tokens.subspan(end - kGram, kGram))] = static_cast<uint32_t>(end);
  }
  known_ = tokens.size();
  const auto last = tokens.last(kGram);
  const auto found = next_.find(hash_of(last));
  if (found == next_.end()) return {};
  const size_t at = found->second;
  if (!std::ranges::equal(tokens.subspan(at - kGram, kGram), last)) return {};
  // What is drafted may be followed by itself: a text that repeats goes on repeating.
  std::vector<int32_t> drafted;
  for (size_t i = 0; i < most; ++i) drafted.push_back(at + i < tokens.size() ? tokens[at + i] : drafted[at + i - tokens.size()]);
  return drafted;
}

void Drafter::learn(size_t drafted, size_t accepted) {
  for (size_t i = 0; i < std::min(drafted, accepted + 1); ++i) chance_ += kLearning * ((i < accepted ? 1.0 : 0.0) - chance_);
}

void SpeculationWatch::saw(size_t tokens, double seconds) {
  const auto n = static_cast<double>(tokens);
  const auto fade_in = [](double& sum, double x) { sum = kFading * sum + x; };
  fade_in(weight_, 1);
  fade_in(tokens_, n);
  fade_in(seconds_, seconds);
  fade_in(tokens_squared_, n * n);
  fade_in(tokens_seconds_, n * seconds);
}

size_t SpeculationWatch::worth(size_t tokens, double chance) {
  const double spread = weight_ * tokens_squared_ - tokens_ * tokens_;
  if (spread < 1e-6 * weight_ * tokens_squared_ || weight_ < 4) return 2;  // nothing is known yet
  const double slope = std::max(0.0, (weight_ * tokens_seconds_ - tokens_ * seconds_) / spread);
  const double now = (seconds_ - slope * tokens_) / weight_ + slope * static_cast<double>(tokens);
  size_t best = 0;
  double most = kWorth, expected = 1, all_so_far = 1;
  for (size_t drafted = 1; drafted <= kMostDrafted && now > 0; ++drafted) {
    expected += all_so_far *= chance;
    const double speed = expected / (1 + slope * static_cast<double>(drafted) / now);
    if (speed > most) most = speed, best = drafted;
  }
  if (best > 0) refusals_ = 0;
  else if (++refusals_ % kTryAgain == 0) return 1;
  return best;
}

}  // namespace moiety::engine
