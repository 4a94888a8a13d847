#include "moe/shipment.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace moiety::moe {
namespace {

using List = std::vector<int32_t>;

TEST(Placement, EvenlyAndOneMore) {
  const Placement on_three = spread_evenly(64, 3);
  EXPECT_EQ((std::vector{on_three.count(0), on_three.count(1), on_three.count(2)}), (std::vector{21, 21, 22}));
  EXPECT_EQ(on_three.owner(41), 1);
  EXPECT_EQ(on_three.owner(42), 2);
  EXPECT_EQ(on_three.place(42), 0);
  const Placement two_on_three = spread_evenly(2, 3);
  EXPECT_EQ(two_on_three.count(0), 0);
  EXPECT_EQ(two_on_three.owner(0), 1);
  EXPECT_EQ(two_on_three.owner(1), 2);
}

TEST(Placement, ARankNumbersItsExpertsInTheirOrder) {
  const Placement placement({1, 0, 1, 0, 0}, 2);
  EXPECT_TRUE(std::ranges::equal(placement.experts(0), std::vector{1, 3, 4}));
  EXPECT_TRUE(std::ranges::equal(placement.experts(1), std::vector{0, 2}));
  for (int rank = 0; rank < 2; ++rank) {
    for (const int expert : placement.experts(rank)) EXPECT_EQ(placement.experts(rank)[static_cast<size_t>(placement.place(expert))], expert);
  }
}

// Tokens 0: experts 0, 4; 1: none; 2: experts 5, 1, 3; 3: expert 2, which is turned away, and 5.
LayerPlan plan() {
  LayerPlan plan;
  plan.routing = {.num_experts = 6, .begin_T1 = {0, 2, 2, 5, 7}, .experts_N = {0, 4, 5, 1, 3, 2, 5}, .weights_N = std::vector<float>(7, 1.0f)};
  plan.dispatch = plan_dispatch(plan.routing);
  plan.dispatch.row_of_visit_N[5] = kNoRow;
  return plan;
}

// Experts 0 and 1; 2; 3, 4 and 5.
Placement consecutive() { return {{0, 0, 1, 2, 2, 2}, 3}; }

TEST(Shipment, ATokenGoesOnceToEachRankThatItVisits) {
  const Placement placement = consecutive();
  const Shipment shipment = plan_shipment(plan(), placement, 0, 0, 4);
  EXPECT_EQ(shipment.rows(0), 0);
  EXPECT_EQ(shipment.rows(1), 0);
  EXPECT_EQ(shipment.rows(2), 3);
  EXPECT_EQ(shipment.token_of_row_R, (List{0, 2, 3}));
  EXPECT_EQ(shipment.first_visit_R1, (List{0, 1, 3, 4}));
  EXPECT_EQ(shipment.visit_V, (List{1, 2, 4, 6}));
  EXPECT_EQ(shipment.expert_V, (List{1, 2, 0, 2}));
  EXPECT_EQ(shipment.visits(2), 4);
  EXPECT_EQ(shipment.visits(1), 0);

  const Shipment part = plan_shipment(plan(), placement, 2, 2, 4);
  EXPECT_EQ(part.token_of_row_R, (List{2}));
  EXPECT_EQ(part.rows(0), 1);
  EXPECT_EQ(part.visit_V, (List{3}));
}

TEST(Shipment, WhatStaysIsARoutingOfItsOwn) {
  const OwnVisits own = own_visits(plan(), consecutive(), 2, 2, 4);
  EXPECT_EQ(own.routing.num_experts, 3);
  EXPECT_EQ(own.routing.begin_T1, (List{0, 2, 3}));
  EXPECT_EQ(own.routing.experts_N, (List{2, 0, 2}));
  EXPECT_EQ(own.visit_V, (List{2, 4, 6}));
}

TEST(Shipment, ExpertsThatAreNoNeighboursAreNumberedByTheirOwner) {
  const Placement placement({0, 1, 0, 1, 1, 0}, 2);  // experts 0, 2 and 5; 1, 3 and 4
  const Shipment shipment = plan_shipment(plan(), placement, 0, 0, 4);
  EXPECT_EQ(shipment.token_of_row_R, (List{0, 2}));
  EXPECT_EQ(shipment.visit_V, (List{1, 3, 4}));
  EXPECT_EQ(shipment.expert_V, (List{2, 0, 1}));
  EXPECT_EQ(own_visits(plan(), placement, 0, 0, 4).routing.experts_N, (List{0, 2, 2}));
}

TEST(Shipment, BorrowedExpertsAreVisitedAtHome) {
  const std::vector<int> borrowed{2, 4, 5};
  const Shipment shipment = plan_shipment(plan(), consecutive(), 0, 0, 4, borrowed);
  EXPECT_EQ(shipment.token_of_row_R, (List{2}));
  EXPECT_EQ(shipment.visit_V, (List{4}));
  const OwnVisits at_home = visits_to(plan(), borrowed, 0, 4);
  EXPECT_EQ(at_home.routing.num_experts, 3);
  EXPECT_EQ(at_home.routing.begin_T1, (List{0, 1, 1, 2, 3}));
  EXPECT_EQ(at_home.routing.experts_N, (List{1, 2, 2}));
  EXPECT_EQ(at_home.visit_V, (List{1, 2, 6}));
  EXPECT_EQ(visits_by_expert(plan()), (std::vector<int64_t>{1, 1, 0, 1, 1, 2}));
}

}  // namespace
}  // namespace moiety::moe
