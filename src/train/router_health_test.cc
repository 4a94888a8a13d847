#include "train/router_health.h"

#include <gtest/gtest.h>

namespace moiety::train {
namespace {

constexpr int64_t kDead = RouterHealth::kDeadAfter;

RouterHealth two_routers() { return {{"layer 1", "layer 3"}, {3, 2}}; }

// Visits of each router's experts, so many steps.
void add(RouterHealth& health, std::vector<std::vector<int>> visits, int64_t steps = 1) {
  moe::Load load(2, 3);
  for (size_t r = 0; r < visits.size(); ++r) {
    for (size_t e = 0; e < visits[r].size(); ++e) load.add(static_cast<int>(r), static_cast<int>(e), visits[r][e]);
  }
  for (int64_t step = 0; step < steps; ++step) health.add(load);
}

Json figures(double entropy = 1, double z_loss = 1) {
  const Json well = {{"entropy", 1.0}, {"z_loss", 1.0}};
  return Json::array({well, {{"entropy", entropy}, {"z_loss", z_loss}}});
}

TEST(RouterHealth, AnExpertIsDeadWhomNobodyVisitsForManySteps) {
  RouterHealth health = two_routers();
  Json of = figures();
  add(health, {{1, 1, 1}, {5, 0}}, kDead - 1);
  EXPECT_TRUE(health.look(of).empty());
  EXPECT_EQ(of[1]["dead"], 0);
  add(health, {{1, 1, 1}, {5, 0}});
  EXPECT_EQ(health.look(of), std::vector<std::string>{"layer 3: nobody has visited expert 1 for 100 steps"});
  EXPECT_EQ(of[0]["dead"], 0);
  EXPECT_EQ(of[1]["dead"], 1);
  // Once
  add(health, {{1, 1, 1}, {5, 0}}, 50);
  EXPECT_TRUE(health.look(of).empty());
  // One visit is enough
  add(health, {{1, 1, 1}, {5, 1}});
  EXPECT_EQ(health.look(of), std::vector<std::string>{"layer 3: every expert is visited again"});
  EXPECT_EQ(of[1]["dead"], 0);
}

TEST(RouterHealth, ALayerThatCollapsesSaysSoOnceUntilItIsWell) {
  RouterHealth health = two_routers();
  const auto news_at = [&](double entropy) {
    Json of = figures(entropy);
    return health.look(of).size();
  };
  EXPECT_EQ(news_at(0.51), 0u);
  EXPECT_EQ(news_at(0.49), 1u);
  EXPECT_EQ(news_at(0.55), 0u);
  EXPECT_EQ(news_at(0.45), 0u);
  EXPECT_EQ(news_at(0.61), 1u);
  EXPECT_EQ(news_at(0.55), 0u);
  EXPECT_EQ(news_at(0.49), 1u);
}

TEST(RouterHealth, LogitsThatGrowAreSaid) {
  RouterHealth health = two_routers();
  Json large = figures(1, 51 * 51), between = figures(1, 45 * 45), small = figures(1, 39 * 39);
  EXPECT_TRUE(health.look(between).empty());
  EXPECT_EQ(health.look(large), std::vector<std::string>{"layer 3: the router's logits are large, the log of their exponentials' sum 51"});
  EXPECT_TRUE(health.look(between).empty());
  EXPECT_EQ(health.look(small).size(), 1u);
}

TEST(RouterHealth, GoesOnFromItsState) {
  RouterHealth health = two_routers(), other = two_routers();
  add(health, {{0, 1, 1}, {5, 0}}, kDead - 1);
  Json collapsed = figures(0.1);
  EXPECT_EQ(health.look(collapsed).size(), 1u);
  other.restore(parse_json(health.state().dump(), "state"), "state");
  EXPECT_EQ(other.state(), health.state());
  add(other, {{0, 1, 1}, {0, 1}});
  EXPECT_EQ(other.look(collapsed), std::vector<std::string>{"layer 1: nobody has visited expert 0 for 100 steps"});

  for (const char* wrong : {"{\"unvisited\":[[2,0,1]],\"shows\":[]}", "{\"unvisited\":[[1,2,1]],\"shows\":[]}", "{\"unvisited\":[],\"shows\":[[0,3]]}",
                            "{\"unvisited\":[[0,0]],\"shows\":[]}", "[]"}) {
    EXPECT_THROW(other.restore(parse_json(wrong, "state"), "state"), Error) << wrong;
  }
}

}  // namespace
}  // namespace moiety::train
