#include "upcycle/depth.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "upcycle/test_support.h"

namespace moiety::upcycle {
namespace {

using spec::Role;

std::vector<int> sources(const MadeModel& small, const MadeModel& deep) {
  std::vector<int> found;
  for (int layer = 0; layer < deep.spec.num_layers; ++layer) {
    for (int from = 0; from < small.spec.num_layers; ++from) {
      if (deep.make({Role::Query, layer}) == small.make({Role::Query, from})) found.push_back(from);
    }
  }
  return found;
}

TEST(GrowDepth, LayersComeBesideTheirOriginalsOrAllAgain) {
  const MadeModel small = random_model(dense_spec(3, 8, 12), 1);
  EXPECT_EQ(sources(small, grow_depth(small, 6, NewLayers::Interpolated)), (std::vector<int>{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(sources(small, grow_depth(small, 4, NewLayers::Interpolated)), (std::vector<int>{0, 0, 1, 2}));
  EXPECT_EQ(sources(small, grow_depth(small, 7, NewLayers::Stacked)), (std::vector<int>{0, 1, 2, 0, 1, 2, 0}));
}

TEST(GrowDepth, SilentCopiesAddNothing) {
  const MadeModel small = random_model(dense_spec(2, 8, 12), 1);
  const MadeModel deep = grow_depth(small, 4, NewLayers::Silent);
  for (const Role role : {Role::AttentionOutput, Role::DenseDown}) {
    EXPECT_EQ(deep.make({role, 2}), small.make({role, 1}));
    EXPECT_EQ(deep.make({role, 3}), std::vector<float>(small.make({role, 1}).size()));
  }
  EXPECT_EQ(deep.make({Role::DenseGate, 3}), small.make({Role::DenseGate, 1}));
}

TEST(GrowDepth, KindsOfLayersGoAlong) {
  using enum spec::FeedForward;
  spec::ModelSpec spec = dense_spec(2, 8, 12);
  spec.feed_forward = {Dense, Moe};
  spec.moe = {.router = {.num_experts = 2, .experts_per_token = 1}, .expert_hidden = 4};
  spec.attention.sliding_window = 5;
  spec.attention.windowed = {true, false};
  const MadeModel deep = grow_depth(random_model(spec, 1), 4, NewLayers::Interpolated);
  EXPECT_EQ(deep.spec.feed_forward, (std::vector{Dense, Dense, Moe, Moe}));
  EXPECT_EQ(deep.spec.attention.windowed, (std::vector<bool>{true, true, false, false}));
}

TEST(GrowDepth, FewerLayersAreRefused) {
  EXPECT_THROW(grow_depth(random_model(dense_spec(3, 8, 12), 1), 2, NewLayers::Stacked), Error);
}

}  // namespace
}  // namespace moiety::upcycle
