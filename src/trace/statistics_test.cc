#include "trace/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "support/random_trace.h"
#include "trace/local_consistency.h"

namespace moiety::trace {
namespace {

// One run; layers, tokens, experts.
using Visits = std::vector<std::vector<std::vector<uint16_t>>>;
TokenRun run_of(const Visits& layers, std::string domain = "") {
  TokenRun run{.domain = std::move(domain)};
  for (const auto& tokens : layers) {
    LayerRun& layer = run.by_sparse_layer.emplace_back();
    for (const auto& experts : tokens) {
      layer.experts_N.insert(layer.experts_N.end(), experts.begin(), experts.end());
      layer.begin_T1.push_back(static_cast<uint32_t>(layer.experts_N.size()));
    }
  }
  return run;
}

struct RandomTrace {
  explicit RandomTrace(uint64_t seed, int most_experts = 12) : random(seed), header(test::random_header(random, most_experts)) {
    for (const StepTrace& step : test::random_steps(random, header, 30, 1 + random.below(4))) collector.add(step);
  }
  std::span<const TokenRun> runs() const { return collector.runs(); }

  Random random;
  TraceHeader header;
  RunCollector collector;
};
constexpr uint64_t kSeeds = 60;

// All visits of a run's layer, one after the other.
std::vector<uint16_t> flat(const TokenRun& run, int layer) { return run.by_sparse_layer[static_cast<size_t>(layer)].experts_N; }
bool visits(const LayerRun& run, size_t token, int expert) {
  const auto of = run.of(token);
  return std::find(of.begin(), of.end(), expert) != of.end();
}

TEST(Runs, FollowSequencesAndBeginAnewAtAGap) {
  RunCollector collector;
  const moe::Routing three{4, {0, 1, 3, 4}, {0, 1, 2, 3}, {}}, one{4, {0, 1}, {2}, {}};
  collector.add({{{5, 0, 1, "a"}, {6, 10, 2, ""}}, {three}});
  collector.add({{{5, 1, 1, "a"}}, {one}});
  collector.add({{{5, 1, 1, "a"}}, {one}});  // it went back
  collector.add({{{5, 2, 1, "b"}}, {one}});  // of another kind
  const auto runs = collector.runs();
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0].by_sparse_layer[0].experts_N, (std::vector<uint16_t>{0, 2}));
  EXPECT_EQ(runs[0].tokens(), 2u);
  EXPECT_EQ(runs[1].first_position, 10u);
  EXPECT_EQ(runs[1].by_sparse_layer[0].begin_T1, (std::vector<uint32_t>{0, 2, 3}));
  EXPECT_EQ(runs[1].by_sparse_layer[0].experts_N, (std::vector<uint16_t>{1, 2, 3}));
  EXPECT_EQ(runs[2].first_position, 1u);
  EXPECT_EQ(runs[3].domain, "b");
}

TEST(Loads, OfDomainsAddUpToThatOfAll) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomTrace trace(seed);
    const moe::Load all = load_of(trace.header, trace.runs());
    for (int layer = 0; layer < all.layers(); ++layer) {
      std::vector<int64_t> sum(static_cast<size_t>(all.experts()), 0), counted = sum;
      for (const auto& [name, load] : loads_by_domain(trace.header, trace.runs())) {
        for (size_t e = 0; e < sum.size(); ++e) sum[e] += load.of_layer(layer)[e];
      }
      for (const TokenRun& run : trace.runs()) {
        for (const uint16_t expert : flat(run, layer)) ++counted[expert];
      }
      EXPECT_EQ(std::vector(all.of_layer(layer).begin(), all.of_layer(layer).end()), counted);
      EXPECT_EQ(sum, counted);
    }
  }
}

TEST(HotSet, IsTheFewestExpertsWithThatShare) {
  const std::vector<int64_t> visits = {10, 0, 60, 30};
  EXPECT_EQ(hot_set(visits, 0.5), 1);
  EXPECT_EQ(hot_set(visits, 0.8), 2);
  EXPECT_EQ(hot_set(visits, 0.9), 2);
  EXPECT_EQ(hot_set(visits, 0.91), 3);
  EXPECT_EQ(hot_set(visits, 1), 3);
  EXPECT_EQ(hot_set(std::vector<int64_t>{0, 0}, 0.8), 0);
}

TEST(ReuseDistance, ByHand) {
  // 0 1 | 2 0 | 0 2: 0 again after {1, 2}, 0 again after nothing, 2 again after {0}.
  const std::vector<TokenRun> runs = {run_of({{{0, 1}, {2, 0}, {0, 2}}})};
  const ReuseDistances distances = reuse_distances(runs, 0, 3);
  EXPECT_EQ(distances.visits_D, (std::vector<int64_t>{1, 1, 1}));
  EXPECT_EQ(distances.first_visits, 3);
  EXPECT_EQ(distances.quantile(0.5), 1);
  EXPECT_EQ(distances.quantile(0.9), 2);
  EXPECT_EQ(distances.quantile(0.1), 0);
  EXPECT_EQ(reuse_distances({}, 0, 3).quantile(0.5), -1);
}

TEST(ReuseDistance, CountsTheDistinctExpertsBetween) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const RandomTrace trace(seed);
    const int layer = static_cast<int>(trace.header.sparse_layers.size()) - 1;
    std::vector<int64_t> expected(static_cast<size_t>(trace.header.num_experts), 0);
    int64_t first = 0;
    for (const TokenRun& run : trace.runs()) {
      const auto order = flat(run, layer);
      for (size_t n = 0; n < order.size(); ++n) {
        size_t before = n;
        while (before > 0 && order[before - 1] != order[n]) --before;
        if (before == 0) {
          ++first;
        } else {
          ++expected[std::set(order.begin() + static_cast<std::ptrdiff_t>(before), order.begin() + static_cast<std::ptrdiff_t>(n)).size()];
        }
      }
    }
    const ReuseDistances found = reuse_distances(trace.runs(), layer, trace.header.num_experts);
    EXPECT_EQ(found.visits_D, expected);
    EXPECT_EQ(found.first_visits, first);
  }
}

TEST(Repetition, IsOfTheTokenBefore) {
  // Of token 1's two visits one is repeated, of token 2's one none. A quarter of experts, or half of them, were visited before.
  const std::vector<TokenRun> runs = {run_of({{{0, 1}, {1, 2}, {3}}}), run_of({{{3}}})};
  EXPECT_DOUBLE_EQ(repetition(runs, 0, 4).share, 1.0 / 3);
  EXPECT_DOUBLE_EQ(repetition(runs, 0, 4).by_chance, 0.5);
  EXPECT_EQ(repetition({}, 0, 4).share, 0);
}

TEST(Repetition, OfEvenChoicesIsWhatChanceGives) {
  Random random(1);
  RunCollector collector;
  collector.add({{{0, 0, 20000, ""}}, {test::random_routing(random, 16, 20000, 4, false, false)}});
  const Repetition found = repetition(collector.runs(), 0, 16);
  EXPECT_DOUBLE_EQ(found.by_chance, 0.25);
  EXPECT_NEAR(found.share, 0.25, 0.01);
}

TEST(CoActivation, OfACopyIsItsEntropyAndOfChanceNothing) {
  // Layer 1 is layer 0 with the experts renamed; each of four is visited equally often, in an order without a period of half.
  Visits layers(2);
  Random random(2);
  for (int t = 0; t < 4000; ++t) {
    const auto expert = static_cast<uint16_t>(random.below(4));
    layers[0].push_back({expert});
    layers[1].push_back({static_cast<uint16_t>(3 - expert)});
  }
  const CoActivation copy = co_activation(std::vector{run_of(layers)}, 0, 4, 2);
  EXPECT_NEAR(copy.bits, 2, 0.01);
  EXPECT_LT(copy.bits_elsewhere, 0.01);
  ASSERT_EQ(copy.strongest.size(), 2u);
  EXPECT_EQ(copy.strongest[0].next, 3 - copy.strongest[0].expert);
  EXPECT_EQ(copy.strongest[0].share, 1);
  EXPECT_NEAR(copy.strongest[0].by_chance, 0.25, 0.03);

  for (auto& token : layers[1]) token = {static_cast<uint16_t>(random.below(4))};
  EXPECT_LT(co_activation(std::vector{run_of(layers)}, 0, 4, 0).bits, 0.01);
}

TEST(CoActivation, ByHand) {
  // The pairs (0,0), (0,1), (1,0), (1,1) in two tokens of weight 1: {0,1} -> {0} and {1} -> {1}.
  const CoActivation found = co_activation(std::vector{run_of({{{0, 1}, {1}}, {{0}, {1}}})}, 0, 2, 9);
  const double expected = 0.25 * std::log2(0.25 / (0.25 * 0.5)) + 0.25 * std::log2(0.25 / (0.75 * 0.5)) + 0.5 * std::log2(0.5 / (0.75 * 0.5));
  EXPECT_NEAR(found.bits, expected, 1e-12);
  ASSERT_EQ(found.strongest.size(), 3u);
  EXPECT_EQ(found.strongest[0].expert, 0);
  EXPECT_EQ(found.strongest[0].next, 0);
  EXPECT_EQ(found.strongest[0].share, 1);
  EXPECT_EQ(found.strongest[0].by_chance, 0.5);
}

TEST(JensenShannon, ByHand) {
  const std::vector<int64_t> p = {1, 1, 0}, q = {0, 2, 2}, far = {0, 0, 7}, none = {0, 0, 0};
  EXPECT_EQ(jensen_shannon_bits(p, p), 0);
  EXPECT_EQ(jensen_shannon_bits(p, far), 1);
  EXPECT_DOUBLE_EQ(jensen_shannon_bits(p, q), 0.5);
  EXPECT_EQ(jensen_shannon_bits(p, none), 0);
}

// As the definition reads.
std::vector<int64_t> counted_segments(std::span<const TokenRun> runs, int layer, int num_experts, size_t segment) {
  std::vector<int64_t> counts(segment + 1, 0);
  for (const TokenRun& run : runs) {
    const LayerRun& of = run.by_sparse_layer[static_cast<size_t>(layer)];
    for (size_t begin = 0; begin + segment <= of.tokens(); ++begin) {
      for (int expert = 0; expert < num_experts; ++expert) {
        size_t tokens = 0;
        for (size_t t = begin; t < begin + segment; ++t) tokens += visits(of, t, expert);
        ++counts[tokens];
      }
    }
  }
  return counts;
}

TEST(SegmentRouting, CountsAreThoseOfTheDefinition) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const int segment : {1, 2, 4, 16}) {
      SCOPED_TRACE(fmt::format("{} {}", seed, segment));
      const RandomTrace trace(seed);
      EXPECT_EQ(segment_counts(trace.runs(), 0, trace.header.num_experts, segment),
                counted_segments(trace.runs(), 0, trace.header.num_experts, static_cast<size_t>(segment)));
    }
  }
}

TEST(SegmentRouting, ScoreIsTheBestOfAllBounds) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    const RandomTrace trace(seed);
    const int experts = trace.header.num_experts;
    const size_t segment = 1 + trace.random.counter() % 5;
    double best = 0;
    for (size_t bound = 0; bound <= segment; ++bound) {
      double given = 0, wanted = 0, right = 0;
      for (const TokenRun& run : trace.runs()) {
        const LayerRun& of = run.by_sparse_layer[0];
        for (size_t begin = 0; begin + segment <= of.tokens(); ++begin) {
          for (int expert = 0; expert < experts; ++expert) {
            size_t tokens = 0;
            for (size_t t = begin; t < begin + segment; ++t) tokens += visits(of, t, expert);
            wanted += static_cast<double>(tokens);
            if (tokens < bound) continue;
            given += static_cast<double>(segment);
            right += static_cast<double>(tokens);
          }
        }
      }
      const double precision = given > 0 ? right / given : 0, recall = wanted > 0 ? right / wanted : 0;
      if (precision + recall > 0) best = std::max(best, 2 * precision * recall / (precision + recall));
    }
    EXPECT_NEAR(segment_routing(segment_counts(trace.runs(), 0, experts, static_cast<int>(segment))).srp, best, 1e-12);
  }
}

TEST(SegmentRouting, ByHand) {
  // Four tokens in two segments of three. Expert 0 is wanted always, 1 and 2 in turns.
  const std::vector<TokenRun> runs = {run_of({{{0, 1}, {0, 2}, {0, 1}, {0, 2}}})};
  const auto counts = segment_counts(runs, 0, 4, 3);
  EXPECT_EQ(counts, (std::vector<int64_t>{2, 2, 2, 2}));  // expert 3; the rarer and the more frequent one; expert 0
  // With a bound of 2 expert 0 and the more frequent one are given: 12 given, 12 wanted, 10 of them right.
  EXPECT_DOUBLE_EQ(segment_routing(counts).srp, 10.0 / 12);
  EXPECT_DOUBLE_EQ(segment_routing(counts).experts, 1);
  EXPECT_EQ(segment_routing(segment_counts(runs, 0, 4, 5)).srp, 0);
  const std::vector<TokenRun> steady = {run_of({{{0, 1}, {1, 0}, {0, 1}, {1, 0}}})};
  EXPECT_EQ(segment_routing(segment_counts(steady, 0, 9, 4)).srp, 1);
}

// One cache of one size, as the definition reads.
int64_t cache_hits(std::span<const TokenRun> runs, int layer, size_t segment, size_t slots) {
  int64_t hits = 0;
  for (const TokenRun& run : runs) {
    const LayerRun& of = run.by_sparse_layer[static_cast<size_t>(layer)];
    std::vector<int> cache;  // the least recently used first
    std::set<int> seen;
    for (size_t t = 0; t < of.tokens(); ++t) {
      const std::vector<int> before = cache;
      for (const int expert : of.of(t)) {
        const bool is_free = !seen.contains(expert) && seen.size() < slots;
        seen.insert(expert);
        hits += is_free || std::find(before.begin(), before.end(), expert) != before.end();
      }
      const auto now = of.of(t);
      for (size_t i = 0; i < now.size(); ++i) {
        const auto wanted = [&](int expert) {
          int64_t visits_to_come = std::count(now.begin() + static_cast<std::ptrdiff_t>(i), now.end(), expert);
          for (size_t later = t + 1; later < std::min(t + segment, of.tokens()); ++later) visits_to_come += visits(of, later, expert);
          return visits_to_come;
        };
        const auto at = std::find(cache.begin(), cache.end(), now[i]);
        if (at != cache.end()) {
          cache.erase(at);
        } else if (cache.size() == slots) {
          cache.erase(std::min_element(cache.begin(), cache.end(), [&](int a, int b) { return wanted(a) < wanted(b); }));
        }
        cache.push_back(now[i]);
      }
    }
  }
  return hits;
}

TEST(SegmentCache, HitsAreThoseOfACacheOfEachSize) {
  int64_t all = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomTrace trace(seed);
    const int experts = trace.header.num_experts;
    for (const int segment : {1, 3, 8}) {
      for (const int most : {1, 3, experts}) {
        const CacheHits found = segment_cache(trace.runs(), 0, experts, segment, most);
        for (int slots = 1; slots <= most; ++slots) {
          SCOPED_TRACE(fmt::format("{} {} {} of {}", seed, segment, slots, most));
          EXPECT_EQ(found.hits_S[static_cast<size_t>(slots) - 1],
                    cache_hits(trace.runs(), 0, static_cast<size_t>(segment), static_cast<size_t>(slots)));
        }
        all += found.hits_S.back();
      }
    }
  }
  EXPECT_GT(all, 1000);
}

TEST(SegmentCache, ByHand) {
  // One slot: expert 0 is free, then each takes the other's place. Two slots: the first two are free; when 2 comes, and the next
  // token is known to want 0, expert 1 goes.
  const std::vector<TokenRun> runs = {run_of({{{0}, {1}, {2}, {0}, {1}}})};
  const CacheHits hits = segment_cache(runs, 0, 3, 2, 3);
  EXPECT_EQ(hits.visits, 5);
  EXPECT_EQ(hits.hits_S, (std::vector<int64_t>{1, 3, 5}));
  EXPECT_DOUBLE_EQ(hits.rate(2), 0.6);
}

}  // namespace
}  // namespace moiety::trace
