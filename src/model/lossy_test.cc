#include "model/lossy.h"

#include <gtest/gtest.h>

#include <set>

namespace moiety::model {
namespace {

struct Has : store::ResidentStore {
  explicit Has(std::set<int> numbers) : experts(std::move(numbers)) {}
  bool has(store::ExpertId id) const override { return experts.contains(id.expert); }
  std::set<int> experts;
};

moe::Routing two_tokens() {
  return {.num_experts = 4, .begin_T1 = {0, 3, 5}, .experts_N = {2, 0, 1, 3, 0}, .weights_N = {0.5f, 0.3f, 0.1f, 0.6f, 0.1f}};
}

TEST(Lossy, LeavesOutWhatIsMissingAndLight) {
  moe::Routing routing = two_tokens();
  skip_missing(Has({0}), 0, 0.4f, routing);
  EXPECT_EQ(routing.begin_T1, (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{2, 0, 3, 0}));
  EXPECT_FLOAT_EQ(routing.weights_N[0], 0.5f * 0.9f / 0.8f);
  EXPECT_FLOAT_EQ(routing.weights_N[0] + routing.weights_N[1], 0.9f);
  EXPECT_FLOAT_EQ(routing.weights_N[3], 0.1f);
}

TEST(Lossy, ATokenKeepsItsHeaviestAndNothingIsLeftOutOfWhatIsThere) {
  moe::Routing routing = two_tokens();
  skip_missing(Has({}), 0, 1, routing);
  EXPECT_EQ(routing.experts_N, (std::vector<int32_t>{2, 3}));
  routing = two_tokens();
  skip_missing(Has({0, 1, 2, 3}), 0, 1, routing);
  EXPECT_EQ(routing.experts_N, two_tokens().experts_N);
  EXPECT_EQ(routing.weights_N, two_tokens().weights_N);
}

TEST(Lossy, NearTiesGoToThoseInMemory) {
  const spec::RouterRule rule{.num_experts = 4, .experts_per_token = 2, .renormalise = false};
  const std::vector<float> logits = {0.50f, 0.45f, 0.42f, -3.0f};
  const auto chosen = [&](float share) {
    return moe::route(rule, logits, {}, [&](std::span<float> scores) { prefer_resident(Has({2, 3}), 0, share, 4, 4, scores); });
  };
  EXPECT_EQ(chosen(0).experts_N, (std::vector<int32_t>{0, 1}));
  const moe::Routing with = chosen(0.1f);
  EXPECT_EQ(with.experts_N, (std::vector<int32_t>{2, 0}));
  // Weights are those of the scores as they were.
  const moe::Routing all = moe::route({.num_experts = 4, .experts_per_token = 4, .renormalise = false}, logits, {});
  EXPECT_EQ(with.weights_N, (std::vector<float>{all.weights_N[2], all.weights_N[0]}));
}

TEST(Lossy, AnExpertThatOneTokenNeedsIsImportant) {
  EXPECT_EQ(unimportant(two_tokens(), 0.4f), (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(unimportant(two_tokens(), 0.7f), (std::vector<bool>{true, true, false, false}));
  EXPECT_EQ(unimportant(two_tokens(), 1), (std::vector<bool>{true, true, true, true}));
}

}  // namespace
}  // namespace moiety::model
