#include "format/synthetic_router.h"

#include <gtest/gtest.h>

#include <numeric>

namespace moiety::format {
namespace {

TEST(ZipfChances, FallWithRankAndMakeUpATokensVisits) {
  for (const auto& [experts, per_token] : {std::pair(64, 8), {128, 8}, {8, 2}, {4, 4}}) {
    const std::vector<double> chances = zipf_chances(experts, per_token);
    EXPECT_NEAR(std::accumulate(chances.begin(), chances.end(), 0.0), per_token, 1e-9);
    EXPECT_LE(chances[0], 1);
    const double last = chances.back() * experts;
    for (size_t e = 0; e < chances.size(); ++e) {
      EXPECT_NEAR(chances[e], std::min(1.0, last / static_cast<double>(e + 1)), 1e-9);
    }
  }
}

TEST(SkewedRouting, IsTheSameHoweverItsPiecesAreCut) {
  spec::ModelSpec spec{.num_layers = 2, .width = 32, .vocab_size = 200};
  spec.moe.router = {.num_experts = 8, .experts_per_token = 2};
  const SkewedRouting skewed(spec);
  const std::vector<float> whole = skewed.embedding(0, 200), rows = skewed.embedding(50, 60);
  EXPECT_TRUE(std::equal(rows.begin(), rows.end(), whole.begin() + 50 * 32));
  EXPECT_EQ(skewed.router(0).size(), 8 * 32u);
  EXPECT_NE(skewed.router(0), skewed.router(1));
}

}  // namespace
}  // namespace moiety::format
