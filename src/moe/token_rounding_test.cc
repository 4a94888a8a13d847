#include "moe/token_rounding.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/random.h"
#include "moe/dispatch_plan.h"

namespace moiety::moe {
namespace {

std::vector<float> random_scores(const spec::RouterRule& rule, size_t tokens, uint64_t seed) {
  Random random(seed);
  const size_t experts = static_cast<size_t>(rule.num_experts);
  std::vector<float> scores_TE(tokens * experts);
  // Few different values, so that some are equal.
  for (float& x : scores_TE) x = static_cast<float>(random.below(20)) / 10;
  for (size_t t = 0; t < tokens; ++t) score(rule, std::span(scores_TE).subspan(t * experts, experts));
  return scores_TE;
}

std::vector<int> counts(const Routing& routing) {
  std::vector<int> count_E(static_cast<size_t>(routing.num_experts), 0);
  for (const int32_t e : routing.experts_N) ++count_E[static_cast<size_t>(e)];
  return count_E;
}

// As the paper's code has it: scores of pairs that were not chosen fall below all that were, each expert sorts its column and takes its
// first so many tokens.
std::set<std::pair<int, int>> by_sorted_columns(const Routing& routing, std::span<const float> scores_TE, int tile) {
  const int tokens = routing.num_tokens(), experts = routing.num_experts;
  std::vector<double> key_TE(scores_TE.begin(), scores_TE.end());
  for (double& key : key_TE) key -= 10;
  for (int t = 0; t < tokens; ++t) {
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) key_TE[static_cast<size_t>(t * experts + routing.experts_N[n])] += 10;
  }
  std::set<std::pair<int, int>> visits;
  for (int e = 0; e < experts; ++e) {
    std::vector<int> order(static_cast<size_t>(tokens));
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int a, int b) {
      return key_TE[static_cast<size_t>(a * experts + e)] > key_TE[static_cast<size_t>(b * experts + e)];
    });
    const double tiles = std::floor(static_cast<double>(counts(routing)[static_cast<size_t>(e)]) / tile + 0.5);
    int wanted = static_cast<int>(tiles) * tile;
    while (wanted > tokens) wanted -= tile;
    for (int i = 0; i < wanted; ++i) visits.emplace(order[static_cast<size_t>(i)], e);
  }
  return visits;
}

TEST(TokenRounding, IsTheSortedColumnsCutAtWholeTiles) {
  const bool holds = rc::check([](uint64_t seed) {
    const int experts = 2 + static_cast<int>(seed % 7), tile = 1 + static_cast<int>(seed / 7 % 9);
    const size_t tokens = 1 + seed / 63 % 60;
    const spec::RouterRule rule{.num_experts = experts, .experts_per_token = 1 + static_cast<int>(seed / 5 % 2)};
    const std::vector<float> scores_TE = random_scores(rule, tokens, seed);
    const Routing routing = choose_experts(rule, scores_TE, {}), rounded = round_tokens(routing, scores_TE, tile);
    RC_ASSERT(rounded.num_tokens() == routing.num_tokens());
    std::set<std::pair<int, int>> visits;
    for (int t = 0; t < rounded.num_tokens(); ++t) {
      for (int n = rounded.begin_T1[t]; n < rounded.begin_T1[t + 1]; ++n) visits.emplace(t, rounded.experts_N[n]);
    }
    RC_ASSERT(static_cast<int>(visits.size()) == rounded.num_visits());  // none twice
    RC_ASSERT(visits == by_sorted_columns(routing, scores_TE, tile));
    const std::vector<int> before = counts(routing), after = counts(rounded);
    for (size_t e = 0; e < after.size(); ++e) {
      RC_ASSERT(after[e] % tile == 0);
      RC_ASSERT(std::abs(after[e] - before[e]) < tile);
    }
    if (tile == 1) RC_ASSERT(rounded.experts_N == routing.experts_N);
  });
  EXPECT_TRUE(holds);
}

TEST(TokenRounding, ThreeTokensByHand) {
  // Expert 0 is chosen by tokens 0, 1, 2, expert 1 by token 3: with a tile of two, expert 0 takes none or one more, expert 1 one more.
  const spec::RouterRule rule{.num_experts = 2, .experts_per_token = 1};
  const std::vector<float> scores_TE = {0.9f, 0.1f, 0.6f, 0.4f, 0.8f, 0.2f, 0.3f, 0.7f};
  const Routing rounded = round_tokens(choose_experts(rule, scores_TE, {}), scores_TE, 2);
  EXPECT_EQ(rounded.begin_T1, (std::vector<int32_t>{0, 1, 3, 4, 6}));
  EXPECT_EQ(rounded.experts_N, (std::vector<int32_t>{0, 0, 1, 0, 1, 0}));
}

TEST(TokenRounding, ATokenMayLoseAllItsExpertsAndKeepsItsPlace) {
  const spec::RouterRule rule{.num_experts = 2, .experts_per_token = 1};
  const std::vector<float> scores_TE = {0.9f, 0.1f, 0.8f, 0.2f, 0.4f, 0.6f, 0.7f, 0.3f};
  const Routing rounded = round_tokens(choose_experts(rule, scores_TE, {}), scores_TE, 4);
  EXPECT_EQ(rounded.begin_T1, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  const Routing none = round_tokens(choose_experts(rule, scores_TE, {}), scores_TE, 8);
  EXPECT_EQ(none.begin_T1, (std::vector<int32_t>{0, 0, 0, 0, 0}));
  EXPECT_EQ(plan_dispatch(none).num_rows(), 0);
}

TEST(TokenRounding, ANaNIsTakenLast) {
  const spec::RouterRule rule{.num_experts = 2, .experts_per_token = 1};
  std::vector<float> scores_TE(2 * 40, NAN);
  scores_TE[2 * 7] = 0.5f;
  const Routing rounded = round_tokens(choose_experts(rule, scores_TE, {}), scores_TE, 16);
  EXPECT_EQ(counts(rounded), (std::vector<int>{32, 0}));
  EXPECT_EQ(rounded.begin_T1[8] - rounded.begin_T1[7], 1);
}

}  // namespace
}  // namespace moiety::moe
