// A cache of experts run over what was visited before: what a policy and a budget would have found in memory.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "store/expert_cache.h"

namespace moiety::store {

struct ReplayOptions {
  ExpertCache::Options cache;
  // Room that there is while a step of so many tokens runs; empty: always all.
  std::function<size_t(size_t tokens)> room_beside;
};

struct ReplayResult {
  uint64_t hits = 0, misses = 0;
  // Of steps of one token a sequence or few more, and of prompts.
  uint64_t decode_hits = 0, decode_misses = 0;

  double hit_rate() const { return hits + misses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(hits + misses); }
};

// In the order in which they happened; experts_L as ExpertCache has it. CachePolicy::Belady sees what comes.
ReplayResult replay(std::span<const size_t> experts_L, std::span<const PastVisit> visits, const ReplayOptions& options);

// The experts that were used most, for ExpertCache::Options::pinned.
std::vector<ExpertId> hot_set(std::span<const size_t> experts_L, std::span<const PastVisit> visits, size_t count);

}  // namespace moiety::store
