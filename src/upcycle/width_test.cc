// What growing does to logits is in tests/parity/upcycle_test.cc; here is what it does to matrices.
#include "upcycle/width.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "upcycle/test_support.h"

namespace moiety::upcycle {
namespace {

using spec::Role;

TEST(GrowWidth, TheOldNeuronsStayInFront) {
  const MadeModel small = random_model(dense_spec(2, 8, 12), 1);
  const MadeModel wide = grow_width(small, {.dense_hidden = 20});
  const std::vector<float> before = small.make({Role::DenseGate, 0}), after = wide.make({Role::DenseGate, 0});
  ASSERT_EQ(after.size(), 20u * 8);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
}

TEST(GrowWidth, NewNeuronsAreTheNextLayersIfSoWished) {
  const MadeModel small = random_model(dense_spec(2, 8, 12), 1);
  const MadeModel wide = grow_width(small, {.dense_hidden = 24, .neurons = NewNeurons::NextLayer});
  const std::vector<float> next = small.make({Role::DenseGate, 1}), after = wide.make({Role::DenseGate, 0});
  // 12 new ones are all twelve of the next layer, in another order.
  for (size_t unit = 12; unit < 24; ++unit) {
    bool found = false;
    for (size_t old = 0; old < 12; ++old)
      found |= std::equal(next.begin() + old * 8, next.begin() + (old + 1) * 8, after.begin() + unit * 8);
    EXPECT_TRUE(found) << unit;
  }
  // The last layer has none after it.
  const std::vector<float> last = wide.make({Role::DenseGate, 1});
  EXPECT_TRUE(std::equal(next.begin(), next.end(), last.begin()));
}

// Else gradients could never tell them apart.
TEST(GrowWidth, CopiesAreReadDifferently) {
  const MadeModel small = random_model(dense_spec(1, 8, 12), 1);
  const MadeModel wide = grow_width(small, {.dense_hidden = 24}), even = grow_width(small, {.dense_hidden = 24, .noise = 0});
  const std::vector<float> gate = wide.make({Role::DenseGate, 0}), down = wide.make({Role::DenseDown, 0}),
                           evenly = even.make({Role::DenseDown, 0});
  for (size_t copy = 12; copy < 24; ++copy) {
    size_t old = 0;
    while (!std::equal(gate.begin() + old * 8, gate.begin() + (old + 1) * 8, gate.begin() + copy * 8)) ++old;
    ASSERT_LT(old, 12u);
    for (size_t row = 0; row < 8; ++row) {
      EXPECT_NE(down[row * 24 + old], down[row * 24 + copy]);
      EXPECT_EQ(evenly[row * 24 + old], evenly[row * 24 + copy]);
      EXPECT_NEAR(down[row * 24 + old] + down[row * 24 + copy], small.make({Role::DenseDown, 0})[row * 12 + old], 1e-6);
    }
  }
}

TEST(GrowWidth, SmallerSizesAndUnknownWeightsAreRefused) {
  const MadeModel small = random_model(dense_spec(1, 8, 12), 1);
  EXPECT_THROW(grow_width(small, {.width = 7}), Error);
  EXPECT_THROW(grow_width(small, {.dense_hidden = 11}), Error);
  EXPECT_THROW(grow_width(small, {.kv_heads = 1}), Error);
  spec::ModelSpec layer_norm = dense_spec(1, 8, 12);
  layer_norm.norm = spec::Norm::Layer;
  EXPECT_THROW(grow_width(random_model(layer_norm, 1), {.width = 16}), Error);
}

}  // namespace
}  // namespace moiety::upcycle
