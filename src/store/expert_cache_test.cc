#include "store/expert_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/random.h"

namespace moiety::store {
namespace {

constexpr size_t kLayers = 3, kExperts = 8;
const std::vector<size_t> kSizes(kLayers, kExperts);

std::vector<Demand> demands(const std::set<int>& experts) {
  std::vector<Demand> demands;
  for (const int e : experts) demands.push_back({e, 1, 0.5f});
  return demands;
}

// Steps of one token through all layers, each expert chosen by chance, some more often.
struct Past {
  int layer;
  std::set<int> experts;
};
std::vector<Past> some_past(uint64_t seed, size_t tokens) {
  Random random(seed);
  std::vector<Past> past;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t l = 0; l < kLayers; ++l) {
      std::set<int> experts;
      while (experts.size() < 2) experts.insert(static_cast<int>(std::min(random.below(kExperts), random.below(kExperts))));
      past.push_back({static_cast<int>(l), experts});
    }
  }
  return past;
}

size_t misses(const std::vector<Past>& past, const ExpertCache::Options& options) {
  ExpertCache cache(kSizes, options);
  size_t missed = 0;
  for (const Past& visit : past) missed += cache.visit(visit.layer, demands(visit.experts), 1).missing.size();
  return missed;
}

// The number of the visit, from 1, after visit v in which an expert is used again.
uint64_t next_use(const std::vector<Past>& past, size_t v, int expert) {
  for (size_t i = v + 1; i < past.size(); ++i) {
    if (past[i].layer == past[v].layer && past[i].experts.contains(expert)) return i + 1;
  }
  return std::numeric_limits<uint64_t>::max();
}
size_t belady(const std::vector<Past>& past, size_t slots) {
  ExpertCache cache(kSizes, {slots, CachePolicy::Belady});
  size_t missed = 0;
  for (size_t v = 0; v < past.size(); ++v) {
    missed += cache.visit(past[v].layer, demands(past[v].experts), 1, [&](int e) { return next_use(past, v, e); }).missing.size();
  }
  return missed;
}

// The least that any cache could miss, which may leave out what comes: by trying all that can be kept.
size_t least_misses(const std::vector<Past>& past, size_t slots) {
  using Set = std::set<std::pair<int, int>>;
  std::map<Set, size_t> best{{{}, 0}};
  for (const Past& visit : past) {
    std::map<Set, size_t> after;
    for (const auto& [there, missed] : best) {
      Set all = there;
      size_t now = missed;
      for (const int e : visit.experts) now += all.insert({visit.layer, e}).second;
      // All that fit, out of those
      std::vector<std::pair<int, int>> list(all.begin(), all.end());
      std::vector<bool> keep(list.size());
      std::fill(keep.begin(), keep.begin() + static_cast<std::ptrdiff_t>(std::min(slots, list.size())), true);
      do {
        Set kept;
        for (size_t i = 0; i < list.size(); ++i) {
          if (keep[i]) kept.insert(list[i]);
        }
        const auto [place, is_new] = after.emplace(kept, now);
        if (!is_new) place->second = std::min(place->second, now);
      } while (std::prev_permutation(keep.begin(), keep.end()));
    }
    best = std::move(after);
  }
  size_t least = SIZE_MAX;
  for (const auto& [there, missed] : best) least = std::min(least, missed);
  return least;
}

// Sizes of experts, by chance but for the first of each layer.
std::vector<std::vector<size_t>> some_sizes(Random& random) {
  std::vector<std::vector<size_t>> sizes_LE(kLayers, std::vector<size_t>(kExperts, 3));
  for (auto& sizes_E : sizes_LE) {
    for (size_t e = 1; e < kExperts; ++e) sizes_E[e] = 3 + random.below(4);
  }
  return sizes_LE;
}

TEST(ExpertCache, BooksAreRightWhateverComes) {
  Random random(5);
  for (const CachePolicy policy : {CachePolicy::Lru, CachePolicy::Lfu, CachePolicy::Weight, CachePolicy::Distance, CachePolicy::Blend,
                                   CachePolicy::Auto}) {
    for (const size_t room : {0, 1, 3, 10, 24, 50}) {
      ExpertCache cache(kSizes, {.room = room, .policy = policy, .sizes_LE = room % 2 == 0 ? some_sizes(random) : decltype(some_sizes(random)){}});
      std::set<ExpertId> there;
      for (int i = 0; i < 600; ++i) {
        const int layer = static_cast<int>(random.below(kLayers));
        std::set<int> experts;
        for (size_t n = random.below(kExperts + 1); n-- > 0;) experts.insert(static_cast<int>(random.below(kExperts)));
        const ExpertCache::Visit visit = cache.visit(layer, demands(experts), 1 + random.below(40));
        EXPECT_EQ(visit.here.size() + visit.missing.size(), experts.size());
        for (const int e : visit.here) EXPECT_TRUE(there.contains({layer, e}) && experts.contains(e));
        for (const ExpertCache::Miss& miss : visit.missing) EXPECT_FALSE(there.contains({layer, miss.expert}));
        for (const ExpertId id : visit.leaving) EXPECT_EQ(there.erase(id), 1u);
        for (const ExpertCache::Miss& miss : visit.missing) {
          if (miss.stays) there.insert({layer, miss.expert});
        }
        if (!there.empty() && random.below(20) == 0) {
          cache.lose(*there.begin());
          there.erase(there.begin());
        }
        const size_t now = random.below(30) == 0 ? random.below(room + 1) : room;
        for (const ExpertId id : cache.use_room(now)) EXPECT_EQ(there.erase(id), 1u);
        size_t used = 0;
        for (int l = 0; l < static_cast<int>(kLayers); ++l) {
          for (int e = 0; e < static_cast<int>(kExperts); ++e) {
            EXPECT_EQ(cache.has({l, e}), there.contains({l, e}));
            if (cache.has({l, e})) used += cache.size_of({l, e});
          }
        }
        EXPECT_EQ(cache.used(), used);
        EXPECT_LE(used, now);
      }
    }
  }
}

// Nobody goes for a newcomer that has no room all the same, and none goes whom less room would have spared.
TEST(ExpertCache, AsManyGoAsALargeOneNeeds) {
  std::vector<std::vector<size_t>> sizes_LE(kLayers, std::vector<size_t>(kExperts, 2));
  sizes_LE[0][0] = 5;
  ExpertCache cache(kSizes, {.room = 6, .policy = CachePolicy::Lru, .sizes_LE = sizes_LE});
  for (const int e : {1, 2, 3}) cache.visit(0, demands({e}), 1);
  EXPECT_EQ(cache.visit(0, demands({0}), 1).leaving, (std::vector<ExpertId>{{0, 1}, {0, 2}, {0, 3}}));
  EXPECT_EQ(cache.visit(0, demands({4}), 1).leaving, (std::vector<ExpertId>{{0, 0}}));
  cache.visit(0, demands({5}), 1);
  EXPECT_EQ(cache.visit(0, demands({6, 7}), 1).leaving, (std::vector<ExpertId>{{0, 4}}));
  // Too large for all of the room: it is computed with and goes
  cache.use_room(4);
  const ExpertCache::Visit visit = cache.visit(0, demands({0}), 1);
  EXPECT_TRUE(visit.leaving.empty() && !visit.missing[0].stays);
}

TEST(ExpertCache, TheExpertThatGoesIsThePolicys) {
  // 0 is used often, 1 twice and last: LRU lets 0 go, LFU 1.
  for (const auto& [policy, stays] : {std::pair(CachePolicy::Lru, 1), {CachePolicy::Lfu, 0}}) {
    ExpertCache cache(kSizes, {2, policy});
    for (int i = 0; i < 9; ++i) cache.visit(0, demands({0}), 1);
    for (int i = 0; i < 2; ++i) cache.visit(0, demands({1}), 1);
    for (int i = 0; i < 3; ++i) cache.visit(0, demands({2}), 1);
    EXPECT_TRUE(cache.has({0, stays}));
    EXPECT_FALSE(cache.has({0, 1 - stays}));
  }
}

TEST(ExpertCache, StepsThatVisitMoreThanThereIsRoomForFindMoreThanWithLru) {
  std::vector<Past> past;
  for (int step = 0; step < 20; ++step) {
    for (int l = 0; l < static_cast<int>(kLayers); ++l) past.push_back({l, {0, 2, 4, 6, 7}});
  }
  EXPECT_GT(misses(past, {12, CachePolicy::Lru}), 150u);
  EXPECT_LT(misses(past, {12, CachePolicy::Lfu}), 100u);
  EXPECT_LT(misses(past, {12, CachePolicy::Distance}), 100u);
}

TEST(ExpertCache, AWaveThroughAllExpertsFindsAsManyAsThereIsRoomFor) {
  for (const CachePolicy policy : {CachePolicy::Lru, CachePolicy::Lfu, CachePolicy::Blend}) {
    ExpertCache cache(kSizes, {12, policy});
    size_t found = 0;
    for (int wave = 0; wave < 20; ++wave) {
      for (int l = 0; l < static_cast<int>(kLayers); ++l) found += cache.visit(l, demands({0, 1, 2, 3, 4, 5, 6, 7}), 256).here.size();
    }
    EXPECT_EQ(found, 19u * 12u);
  }
}

TEST(ExpertCache, BeladyMissesAsLittleAsAnyCacheCould) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const auto past = some_past(seed, 4);
    for (const size_t slots : {1, 2, 3, 4}) EXPECT_EQ(belady(past, slots), least_misses(past, slots)) << seed << ", " << slots;
  }
}

TEST(ExpertCache, NoPolicyBeatsBeladyAndAutoIsAboutAsGoodAsTheBestOfThem) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto past = some_past(seed, 800);
    for (const size_t slots : {4, 8, 14}) {
      size_t best = SIZE_MAX;
      for (const CachePolicy policy : kAutoChoices) best = std::min(best, misses(past, {slots, policy}));
      EXPECT_LE(belady(past, slots), best);
      EXPECT_LT(static_cast<double>(misses(past, {slots, CachePolicy::Auto})), 1.1 * static_cast<double>(best));
    }
  }
}

TEST(ExpertCache, PinnedExpertsStay) {
  ExpertCache cache(kSizes, {6, CachePolicy::Lru, {{0, 1}, {2, 5}}});
  cache.visit(0, demands({1}), 1);
  cache.visit(2, demands({5}), 1);
  for (int i = 0; i < 30; ++i) cache.visit(i % 3, demands({0, 2, 3, 4, 6, 7}), 1);
  EXPECT_TRUE(cache.has({0, 1}));
  EXPECT_TRUE(cache.has({2, 5}));
}

// Half of each layer's experts are the others' copies of low precision: whoever comes whole has the room of its own copy, and, if that is
// enough, nobody else's for it.
TEST(ExpertCache, AnExpertReplacesItsOwnCopyOfLowPrecision) {
  constexpr int kWhole = kExperts / 2;
  for (const size_t whole_size : {1, 2}) {
    std::vector<std::vector<size_t>> sizes_LE(kLayers, std::vector<size_t>(kExperts, 1));
    for (auto& sizes_E : sizes_LE) std::fill_n(sizes_E.begin(), kWhole, whole_size);
    for (const CachePolicy policy : {CachePolicy::Lru, CachePolicy::Lfu, CachePolicy::Weight, CachePolicy::Distance, CachePolicy::Blend, CachePolicy::Auto}) {
      Random random(17);
      size_t replaced = 0;
      for (const size_t room : {1, 3, 7, 12}) {
        ExpertCache cache(kSizes, {.room = room, .policy = policy, .has_low = true, .sizes_LE = sizes_LE});
        for (int i = 0; i < 600; ++i) {
          const int layer = i % static_cast<int>(kLayers);
          std::set<int> wanted;
          for (int e = 0; e < kWhole; ++e) {
            if (random.below(2) == 0) continue;
            wanted.insert(random.below(2) == 0 || cache.has({layer, e}) ? e : e + kWhole);
          }
          std::set<int> low_before;
          for (int e = 0; e < kWhole; ++e) {
            if (cache.has({layer, e + kWhole})) low_before.insert(e);
          }
          const ExpertCache::Visit visit = cache.visit(layer, demands(wanted), 1);
          for (const ExpertCache::Miss& miss : visit.missing) {
            EXPECT_EQ(miss.low_is_here, miss.expert < kWhole && low_before.contains(miss.expert));
            EXPECT_EQ(cache.has({layer, miss.expert}), miss.stays);
            if (!miss.low_is_here) continue;
            ++replaced;
            const ExpertId low{layer, miss.expert + kWhole};
            EXPECT_EQ(cache.has(low), !miss.stays);
            EXPECT_EQ(std::ranges::count(visit.leaving, low), 0) << "it is needed until the whole one is there";
            EXPECT_TRUE(miss.stays || whole_size > 1);
          }
          if (whole_size == 1 && visit.missing.size() == low_before.size()) {
            const bool all_low = std::ranges::all_of(visit.missing, &ExpertCache::Miss::low_is_here);
            EXPECT_TRUE(!all_low || visit.leaving.empty());
          }
          for (int e = 0; e < kWhole; ++e) EXPECT_FALSE(cache.has({layer, e}) && cache.has({layer, e + kWhole}));
          EXPECT_LE(cache.used(), room);
        }
      }
      EXPECT_GT(replaced, 0u);
    }
  }
}

}  // namespace
}  // namespace moiety::store
