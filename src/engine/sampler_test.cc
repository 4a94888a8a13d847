#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"

namespace moiety::engine {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, -1.0f, 3.0f, 0.0f};

// How often each token comes out of many draws.
std::map<int32_t, double> shares(const SamplingOptions& options) {
  std::map<int32_t, double> shares;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    SamplingOptions o = options;
    o.seed = static_cast<uint64_t>(i);
    shares[sample(o, kLogits, {}, {})] += 1.0 / kDraws;
  }
  return shares;
}

TEST(Sampler, GreedyTakesTheLikeliestAndTheLowerIdOfEquals) {
  EXPECT_EQ(sample({.temperature = 0}, kLogits, {}, {}), 1);
}

TEST(Sampler, SharesFollowTheSoftmaxAtTheTemperature) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    double sum = 0;
    for (const float x : kLogits) sum += std::exp(x / temperature);
    const auto found = shares({.temperature = temperature});
    for (size_t v = 0; v < kLogits.size(); ++v) {
      const double wanted = std::exp(kLogits[v] / temperature) / sum;
      EXPECT_NEAR(found.contains(int(v)) ? found.at(int(v)) : 0.0, wanted, 0.015) << temperature << " token " << v;
    }
  }
}

TEST(Sampler, EachFilterLeavesTheTokensItNames) {
  const auto tokens = [](const SamplingOptions& o) {
    std::vector<int32_t> ids;
    for (const auto& [id, share] : shares(o)) ids.push_back(id);
    return ids;
  };
  EXPECT_EQ(tokens({.temperature = 5, .top_k = 3}), (std::vector<int32_t>{1, 2, 4}));
  EXPECT_EQ(tokens({.temperature = 1, .top_p = 0.7f}), (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(tokens({.temperature = 1, .top_p = 0.01f}), (std::vector<int32_t>{1}));
  EXPECT_EQ(tokens({.temperature = 1, .min_p = 0.3f}), (std::vector<int32_t>{1, 2, 4}));
}

TEST(Sampler, PenaltiesPushDownWhatWasSeen) {
  const std::vector<int32_t> prompt = {1}, generated = {4, 4};
  EXPECT_EQ(sample({.temperature = 0, .repetition_penalty = 2}, kLogits, prompt, {}), 4);
  EXPECT_EQ(sample({.temperature = 0, .repetition_penalty = 2}, kLogits, prompt, generated), 2);
  EXPECT_EQ(sample({.temperature = 0, .presence_penalty = 0.5f}, kLogits, prompt, generated), 1);
  // A negative logit becomes more negative.
  EXPECT_EQ(sample({.temperature = 0, .repetition_penalty = 3}, std::vector<float>{-1, -2}, std::vector<int32_t>{0}, {}), 1);
}

TEST(Sampler, BiasesComeFirst) {
  EXPECT_EQ(sample({.temperature = 0, .logit_bias = {{1, -1.5f}, {4, -1.5f}}}, kLogits, {}, {}), 2);
  // (-1 + 5.5) / 2 is less than 3; the other way round -1 * 2 + 5.5 would be more.
  EXPECT_EQ(sample({.temperature = 0, .repetition_penalty = 2, .logit_bias = {{3, 5.5f}}}, kLogits, std::vector<int32_t>{3}, {}), 1);
}

TEST(Sampler, TheSameSeedGivesTheSameTextAndEachPositionItsOwnDraw) {
  const std::vector<float> even(1000, 0.0f);
  const SamplingOptions options{.seed = 42};
  std::vector<int32_t> a, b;
  for (int i = 0; i < 20; ++i) a.push_back(sample(options, even, {}, a));
  for (int i = 0; i < 20; ++i) b.push_back(sample(options, even, {}, b));
  EXPECT_EQ(a, b);
  EXPECT_GT(std::set<int32_t>(a.begin(), a.end()).size(), 10u);
}

TEST(Sampler, OptionsThatMakeNoSenseAreNamed) {
  EXPECT_THROW(check({.temperature = -1}), Error);
  EXPECT_THROW(check({.temperature = NAN}), Error);
  EXPECT_THROW(check({.top_p = 0}), Error);
  EXPECT_THROW(check({.top_k = -1}), Error);
  EXPECT_THROW(check({.min_p = 2}), Error);
  EXPECT_THROW(check({.repetition_penalty = 0}), Error);
}

// What may be drawn is what a sort of all tokens says, in flat distributions and steep ones.
TEST(Sampler, TheLikeliestAreThoseOfASort) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Random random(seed);
    std::vector<float> logits(40 + random.below(400));
    const double spread = 0.01 + 3 * random.uniform();
    // Some are equal.
    for (float& logit : logits) logit = static_cast<float>(spread * std::floor(4 * random.normal()));
    SamplingOptions options{.temperature = 0.5f + static_cast<float>(random.uniform()), .top_p = static_cast<float>(0.1 + 0.9 * random.uniform())};
    if (random.below(2) == 0) options.top_k = static_cast<int>(1 + random.below(logits.size()));

    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    if (options.top_k > 0) order.resize(static_cast<size_t>(options.top_k));
    double all = 0, mass = 0;
    const auto weight = [&](int32_t token) { return std::exp((double{logits[token]} - logits[order[0]]) / options.temperature); };
    for (const int32_t token : order) all += weight(token);
    size_t least = 0, most = 0;  // so many are kept, but for rounding
    while (least < order.size() && mass < (options.top_p - 1e-4) * all) mass += weight(order[least++]);
    for (most = least; most < order.size() && mass < (options.top_p + 1e-4) * all;) mass += weight(order[most++]);

    std::set<int32_t> drawn;
    for (uint64_t i = 0; i < 300; ++i) {
      options.seed = i;
      drawn.insert(sample(options, logits, {}, {}));
    }
    const std::set<int32_t> may(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most));
    for (const int32_t token : drawn) ASSERT_TRUE(may.contains(token)) << "seed " << seed << ", top-p " << options.top_p << ", top-k " << options.top_k;
    // Of few candidates each comes sometime.
    if (least <= 3) {
      EXPECT_GE(drawn.size(), std::min<size_t>(least, 2));
    }
  }
}

}  // namespace
}  // namespace moiety::engine
