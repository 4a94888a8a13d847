#include "moe/join.h"

#include <gtest/gtest.h>

namespace moiety::moe {
namespace {

TEST(Join, ATokensVisitsFollowOneAnother) {
  const Routing a{4, {0, 2, 2}, {3, 1}, {0.75f, 0.25f}}, b{4, {0, 1, 3}, {3, 0, 2}, {1, 0.5f, 0.5f}};
  const Routing* both[] = {&a, &b};
  const Routing all = join_visits(both);
  EXPECT_EQ(all.num_experts, 4);
  EXPECT_EQ(all.begin_T1, (std::vector<int32_t>{0, 3, 5}));
  EXPECT_EQ(all.experts_N, (std::vector<int32_t>{3, 1, 3, 0, 2}));
  EXPECT_EQ(all.weights_N, (std::vector<float>{0.75f, 0.25f, 1, 0.5f, 0.5f}));

  const Routing once = without_repeats(all);
  EXPECT_EQ(once.begin_T1, (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(once.experts_N, (std::vector<int32_t>{3, 1, 0, 2}));
  EXPECT_EQ(once.weights_N, (std::vector<float>{1.75f, 0.25f, 0.5f, 0.5f}));
}

TEST(Join, OneRoutingStaysAsItIs) {
  const Routing a{4, {0, 2}, {3, 1}, {}};
  const Routing* one[] = {&a};
  EXPECT_EQ(join_visits(one).experts_N, a.experts_N);
  EXPECT_EQ(without_repeats(a).experts_N, a.experts_N);
  EXPECT_TRUE(without_repeats(a).weights_N.empty());
}

}  // namespace
}  // namespace moiety::moe
