// Tokens that an expert would see as nearly the same, made one (Nie et al. 2024, "LSH-MoE: Communication-efficient MoE training via
// locality-sensitive hashing"): the expert gets the mean of each cluster of its visits instead of every one of them, and what a token
// lies beside its mean is added to the result as it is, since the block is a step along a residual stream. So fewer rows travel and are
// computed; in training alone. No torch, no graph.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "moe/dispatch_plan.h"

namespace moiety::train {

struct Clustering {
  double share = 1;      // clusters a visit; 1: every token by itself
  bool residual = true;  // what a token lies beside its mean is added
};

// Codes of tokens, K of each: code k is which of the directions of a random frame, or of their opposites, the token lies nearest to
// (cross-polytope hashing, Andoni et al. 2015). Near tokens often have the same.
inline constexpr size_t kCodes = 8, kDirections = 16;
Matrix<float> draw_frames(size_t width, uint64_t seed);  // [K * directions, D]
Matrix<uint8_t> hash_tokens(MatrixView<const float> x_TD, MatrixView<const float> frames);

struct TokenClusters {
  std::shared_ptr<const moe::LayerPlan> plan;  // each cluster as a token of its own, which visits one expert with weight 1
  std::vector<int32_t> cluster_of_visit_N;     // kNoRow for a visit that capacity turned away
  std::vector<int32_t> size_C;
};

// An expert's visits in `share` times as many clusters, rounded, at least one; fewer where tokens have all codes in common. They are
// parted by their first code, the largest of these by the second, and so on until there are so many; what the last parting leaves
// over is one cluster.
TokenClusters cluster_tokens(const moe::LayerPlan& chosen, const Matrix<uint8_t>& codes_TK, double share);

// mean_CD[c] = mean of x_TD over the visits of the cluster; and dx_TD += its gradient.
void cluster_means(const moe::LayerPlan& chosen, const TokenClusters& clusters, MatrixView<const float> x_TD, MatrixView<float> mean_CD);
void cluster_means_backward(const moe::LayerPlan& chosen, const TokenClusters& clusters, MatrixView<const float> dmean_CD,
                            MatrixView<float> dx_TD);

// out_TD[t] += sum over the token's visits of weight * y_CD[cluster]; and its gradients, which are written.
void spread_clusters(const moe::LayerPlan& chosen, const TokenClusters& clusters, std::span<const float> mix_N, MatrixView<const float> y_CD,
                     MatrixView<float> out_TD);
void spread_clusters_backward(const moe::LayerPlan& chosen, const TokenClusters& clusters, std::span<const float> mix_N,
                              MatrixView<const float> y_CD, MatrixView<const float> dout_TD, std::span<float> dmix_N, MatrixView<float> dy_CD);

}  // namespace moiety::train
