#include "train/routing_figures.h"

#include <gtest/gtest.h>

namespace moiety::train {
namespace {

// One layer, tokens that go where their logits say.
Routes pass(const std::vector<int>& experts, double capacity = 0) {
  Matrix<float> logits_TE(experts.size(), 4);
  for (size_t t = 0; t < experts.size(); ++t) logits_TE.row(t)[static_cast<size_t>(experts[t])] = static_cast<float>(1 + t);
  const spec::RouterRule rule{.num_experts = 4, .experts_per_token = 1, .renormalise = false};
  return {std::make_shared<const RouterSaved>(router_forward(rule, logits_TE.view(), {}, {.capacity = capacity}))};
}

TEST(RoutingFigures, SayHowBusyExpertsAreAndWhoWasTurnedAway) {
  RoutingFigures figures({4});
  figures.add(pass({0, 0, 0, 1}, 1), false);  // one row an expert: two tokens are turned away
  figures.add(pass({0, 2, 2, 0}, 2), false);  // two rows each: none
  EXPECT_EQ(figures.visits().dump(), "[[5,1,2,0]]");
  const Json layer = figures.by_layer()[0];
  EXPECT_DOUBLE_EQ(layer["max_over_mean"].get<double>(), 2.5);
  EXPECT_EQ(layer["idle"], 1);
  EXPECT_DOUBLE_EQ(layer["dropped"].get<double>(), 0.25);
  EXPECT_DOUBLE_EQ(figures.dropped_share(), 0.25);
  EXPECT_FALSE(layer.contains("router_entropy"));
}

TEST(RoutingFigures, OfManyPassesAreThoseOfOnePass) {
  RoutingFigures one({4}), two({4}), sum({4});
  const Routes routes = pass({3, 1, 1, 2, 0, 1});
  one.add(routes, true);
  two.add(routes, true);
  two.add(routes, true);
  sum.add(one);
  sum.add(one);
  EXPECT_EQ(two.by_layer(), sum.by_layer());
  EXPECT_NEAR(one.balance_loss(), routes[0]->balance.loss, 1e-6);
  EXPECT_NEAR(two.balance_loss(), routes[0]->balance.loss, 1e-6);
  EXPECT_NEAR(one.by_layer()[0]["router_entropy"].get<double>(), two.by_layer()[0]["router_entropy"].get<double>(), 1e-12);
}

TEST(RoutingFigures, DomainsThatShareNoExpertAreFullySpecialised) {
  RoutingFigures german({4}), code({4});
  german.add(pass({0, 0, 1}), false);
  code.add(pass({2, 3, 3, 3}), false);
  EXPECT_NEAR(specialisation_by_layer({&german, &code})[0], 1, 1e-12);
  EXPECT_NEAR(specialisation_by_layer({&german, &german})[0], 0, 1e-12);
}

}  // namespace
}  // namespace moiety::train
