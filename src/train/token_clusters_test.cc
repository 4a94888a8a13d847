#include "train/token_clusters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/random.h"
#include "support/random_matrix.h"

namespace moiety::train {
namespace {

constexpr int kExperts = 5;

moe::LayerPlan plan_of(int tokens, int per_token, int capacity = 0) {
  moe::LayerPlan plan;
  plan.routing.num_experts = kExperts;
  Random random(4);
  for (int t = 0; t < tokens; ++t) {
    const int first = static_cast<int>(random.below(kExperts - 1));  // nobody begins with the last expert
    for (int k = 0; k < per_token; ++k) plan.routing.experts_N.push_back((first + k) % (kExperts - 1));
    plan.routing.begin_T1.push_back(plan.routing.num_visits());
  }
  plan.routing.weights_N.assign(plan.routing.experts_N.size(), 0.5f);
  plan.dispatch = capacity > 0 ? moe::plan_dispatch(plan.routing, capacity) : moe::plan_dispatch(plan.routing);
  return plan;
}

Matrix<uint8_t> codes_of(const Matrix<float>& x_TD, uint64_t seed) { return hash_tokens(x_TD.view(), draw_frames(x_TD.cols(), seed).view()); }

// Mean squared distance of the rows to their clusters' means.
double distance_to_means(const moe::LayerPlan& plan, const TokenClusters& clusters, const Matrix<float>& x_TD) {
  Matrix<float> mean_CD(clusters.size_C.size(), x_TD.cols());
  cluster_means(plan, clusters, x_TD.view(), mean_CD.view());
  double sum = 0;
  for (int n = 0; n < plan.dispatch.num_rows(); ++n) {
    const auto x = x_TD.row(static_cast<size_t>(plan.dispatch.token_of_row_N[n]));
    const auto mean = mean_CD.row(static_cast<size_t>(clusters.cluster_of_visit_N[plan.dispatch.visit_of_row_N[n]]));
    for (size_t d = 0; d < x.size(); ++d) sum += (x[d] - mean[d]) * (x[d] - mean[d]);
  }
  return sum / plan.dispatch.num_rows();
}

TEST(TokenClusters, AreThatManyOfOneExpertEachAndHoldEveryVisitThatHasARow) {
  for (const int capacity : {0, 40}) {
    const moe::LayerPlan plan = plan_of(300, 2, capacity);
    const Matrix<float> x_TD = test::random_matrix(300, 24, 1);
    const Matrix<uint8_t> codes = codes_of(x_TD, 7);
    for (const double share : {0.001, 0.05, 0.2, 0.37, 0.9, 1.0}) {
      const TokenClusters clusters = cluster_tokens(plan, codes, share);
      std::map<int, int> clusters_of_expert;
      for (size_t c = 0; c < clusters.size_C.size(); ++c) ++clusters_of_expert[clusters.plan->routing.experts_N[c]];
      for (int e = 0; e < kExperts; ++e) {
        const int rows = plan.dispatch.rows_of(e);
        // Eight codes of 32 values leave no two of these tokens together.
        EXPECT_EQ(clusters_of_expert[e], rows == 0 ? 0 : std::max(1, static_cast<int>(std::round(share * rows)))) << e << " " << share;
      }
      std::vector<int32_t> size_C(clusters.size_C.size(), 0);
      for (size_t n = 0; n < clusters.cluster_of_visit_N.size(); ++n) {
        const int32_t c = clusters.cluster_of_visit_N[n];
        ASSERT_EQ(c == moe::kNoRow, plan.dispatch.row_of_visit_N[n] == moe::kNoRow);
        if (c == moe::kNoRow) continue;
        ++size_C[static_cast<size_t>(c)];
        EXPECT_EQ(clusters.plan->routing.experts_N[static_cast<size_t>(c)], plan.routing.experts_N[n]);
      }
      EXPECT_EQ(size_C, clusters.size_C);
      EXPECT_EQ(clusters.plan->dispatch.num_rows(), static_cast<int>(size_C.size()));
    }
  }
}

TEST(TokenClusters, HoldTokensThatLieTogether) {
  const moe::LayerPlan plan = plan_of(600, 1);
  const Matrix<float> centres = test::random_matrix(12, 32, 2), noise = test::random_matrix(600, 32, 3), apart = test::random_matrix(600, 32, 5);
  Matrix<float> x_TD(600, 32);
  for (size_t t = 0; t < 600; ++t) {
    for (size_t d = 0; d < 32; ++d) x_TD.row(t)[d] = centres.row(t % 12)[d] + 0.03f * noise.row(t)[d];
  }
  // By codes of other tokens: clusters of the same sizes by chance.
  const TokenClusters near = cluster_tokens(plan, codes_of(x_TD, 1), 0.3), chance = cluster_tokens(plan, codes_of(apart, 1), 0.3);
  EXPECT_LT(distance_to_means(plan, near, x_TD), 0.05 * distance_to_means(plan, chance, x_TD));
  // Even where nothing was made to lie together it is better than chance.
  EXPECT_LT(distance_to_means(plan, cluster_tokens(plan, codes_of(apart, 1), 0.1), apart),
            0.97 * distance_to_means(plan, cluster_tokens(plan, codes_of(x_TD, 1), 0.1), apart));
}

TEST(TokenClusters, EqualTokensAreOne) {
  const moe::LayerPlan plan = plan_of(100, 2);
  Matrix<float> x_TD(100, 16);
  const Matrix<float> kinds = test::random_matrix(4, 16, 1);
  for (size_t t = 0; t < 100; ++t) std::ranges::copy(kinds.row(t % 4), x_TD.row(t).begin());
  const TokenClusters clusters = cluster_tokens(plan, codes_of(x_TD, 1), 1);
  EXPECT_LE(clusters.size_C.size(), 4u * (kExperts - 1));
  EXPECT_NEAR(distance_to_means(plan, clusters, x_TD), 0, 1e-9);
}

}  // namespace
}  // namespace moiety::train
