#include "store/replay.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace moiety::store {
namespace {

// For every demand of every visit the number, from 1, of the visit that uses the expert again.
std::vector<std::vector<uint64_t>> next_uses(std::span<const size_t> experts_L, std::span<const PastVisit> visits) {
  constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  std::vector<std::vector<uint64_t>> next_LE;
  for (const size_t experts : experts_L) next_LE.emplace_back(experts, kNever);
  std::vector<std::vector<uint64_t>> next_VD(visits.size());
  for (size_t v = visits.size(); v-- > 0;) {
    for (const Demand& demand : visits[v].demands) {
      uint64_t& next = next_LE[static_cast<size_t>(visits[v].layer)][static_cast<size_t>(demand.expert)];
      next_VD[v].push_back(next);
      next = v + 1;
    }
  }
  return next_VD;
}

}  // namespace

ReplayResult replay(std::span<const size_t> experts_L, std::span<const PastVisit> visits, const ReplayOptions& options) {
  ExpertCache cache(experts_L, options.cache);
  std::vector<std::vector<uint64_t>> next_VD;
  if (options.cache.policy == CachePolicy::Belady) next_VD = next_uses(experts_L, visits);
  ReplayResult result;
  for (size_t v = 0; v < visits.size(); ++v) {
    const PastVisit& past = visits[v];
    if (options.room_beside) cache.use_room(options.room_beside(past.tokens));
    ExpertCache::NextUse next;
    if (!next_VD.empty()) {
      next = [&](int expert) {
        const auto demand = std::ranges::find(past.demands, expert, &Demand::expert);
        return next_VD[v][static_cast<size_t>(demand - past.demands.begin())];
      };
    }
    const ExpertCache::Visit visit = cache.visit(past.layer, past.demands, past.tokens, next);
    result.hits += visit.here.size();
    result.misses += visit.missing.size();
    constexpr size_t kDecodes = 32;
    if (past.tokens > kDecodes) continue;
    result.decode_hits += visit.here.size();
    result.decode_misses += visit.missing.size();
  }
  return result;
}

std::vector<ExpertId> hot_set(std::span<const size_t> experts_L, std::span<const PastVisit> visits, size_t count) {
  struct Used {
    ExpertId id;
    int64_t tokens = 0;
  };
  std::vector<Used> all;
  std::vector<size_t> first_L;
  for (size_t l = 0; l < experts_L.size(); ++l) {
    first_L.push_back(all.size());
    for (size_t e = 0; e < experts_L[l]; ++e) all.push_back({{static_cast<int>(l), static_cast<int>(e)}});
  }
  for (const PastVisit& visit : visits) {
    for (const Demand& demand : visit.demands) {
      all[first_L[static_cast<size_t>(visit.layer)] + static_cast<size_t>(demand.expert)].tokens += demand.tokens;
    }
  }
  std::ranges::stable_sort(all, std::greater(), &Used::tokens);
  std::vector<ExpertId> hot;
  for (size_t i = 0; i < std::min(count, all.size()); ++i) hot.push_back(all[i].id);
  return hot;
}

}  // namespace moiety::store
