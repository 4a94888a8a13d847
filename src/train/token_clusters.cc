#include "train/token_clusters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>

#include "base/random.h"
#include "train/gemm.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using moe::LayerPlan;

// Rows whose first `codes` codes are equal.
struct Cluster {
  std::vector<int32_t> rows;
  size_t codes = 0;
};

// Parted by the next code, the largest part first.
std::vector<Cluster> parts_of(Cluster whole, const auto& codes_of) {
  const auto code_of = [&](int32_t row) { return codes_of(row)[whole.codes]; };
  std::ranges::stable_sort(whole.rows, {}, code_of);
  std::vector<Cluster> parts;
  for (const int32_t row : whole.rows) {
    if (parts.empty() || code_of(row) != code_of(parts.back().rows.back())) parts.push_back({{}, whole.codes + 1});
    parts.back().rows.push_back(row);
  }
  std::ranges::stable_sort(parts, std::greater(), [](const Cluster& part) { return part.rows.size(); });
  return parts;
}

// At most `wanted` clusters of these rows.
std::vector<Cluster> clusters_of(std::vector<int32_t> rows, size_t wanted, const auto& codes_of) {
  std::vector<Cluster> done, open{{std::move(rows), 0}};
  const auto smaller = [](const Cluster& a, const Cluster& b) {
    return a.rows.size() != b.rows.size() ? a.rows.size() < b.rows.size() : a.rows.front() > b.rows.front();
  };
  while (!open.empty()) {
    std::ranges::pop_heap(open, smaller);
    Cluster largest = std::move(open.back());
    open.pop_back();
    const size_t room = wanted - done.size() - open.size();
    if (room == 1 || largest.rows.size() == 1 || largest.codes == kCodes) {
      done.push_back(std::move(largest));
      continue;
    }
    std::vector<Cluster> parts = parts_of(std::move(largest), codes_of);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i >= room) {  // those left over are one, and stay it
        std::ranges::copy(parts[i].rows, std::back_inserter(done.back().rows));
      } else if (i + 1 == room && parts.size() > room) {
        done.push_back(std::move(parts[i]));
      } else {
        open.push_back(std::move(parts[i]));
        std::ranges::push_heap(open, smaller);
      }
    }
  }
  return done;
}

// body(visit, cluster) for those of token t that are in one.
void for_visits(const LayerPlan& chosen, const TokenClusters& clusters, size_t t, const auto& body) {
  for (int32_t visit = chosen.routing.begin_T1[t]; visit < chosen.routing.begin_T1[t + 1]; ++visit) {
    const size_t n = static_cast<size_t>(visit);
    if (clusters.cluster_of_visit_N[n] != moe::kNoRow) body(n, static_cast<size_t>(clusters.cluster_of_visit_N[n]));
  }
}

// body(token, visit, cluster) by cluster on all threads, each in the order of its tokens: the same sums in every run.
void for_clusters(const LayerPlan& chosen, const TokenClusters& clusters, const auto& body) {
  std::vector<int32_t> first_C1(clusters.size_C.size() + 1, 0);
  std::partial_sum(clusters.size_C.begin(), clusters.size_C.end(), first_C1.begin() + 1);
  struct Member {
    size_t token, visit;
  };
  std::vector<Member> members(static_cast<size_t>(first_C1.back()));
  std::vector<int32_t> next_C(first_C1.begin(), first_C1.end() - 1);
  for (size_t t = 0; t < static_cast<size_t>(chosen.routing.num_tokens()); ++t) {
    for_visits(chosen, clusters, t, [&](size_t visit, size_t cluster) { members[static_cast<size_t>(next_C[cluster]++)] = {t, visit}; });
  }
  parallel_ranges(clusters.size_C.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t c = begin; c < end; ++c) {
      for (int32_t m = first_C1[c]; m < first_C1[c + 1]; ++m) body(members[static_cast<size_t>(m)].token, members[static_cast<size_t>(m)].visit, c);
    }
  });
}

}  // namespace

Matrix<float> draw_frames(size_t width, uint64_t seed) {
  Matrix<float> frames(kCodes * kDirections, width);
  Random random(seed);
  for (float& number : frames.flat()) number = static_cast<float>(random.normal());
  return frames;
}

Matrix<uint8_t> hash_tokens(MatrixView<const float> x_TD, MatrixView<const float> frames) {
  Matrix<float> lengths(x_TD.rows(), frames.rows());
  multiply_nt(GemmType::F32, x_TD, frames, lengths.view());
  Matrix<uint8_t> codes(x_TD.rows(), kCodes);
  parallel_ranges(x_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (size_t k = 0; k < kCodes; ++k) {
        const auto along = lengths.row(t).subspan(k * kDirections, kDirections);
        const auto largest = std::ranges::max_element(along, {}, [](float length) { return std::abs(length); });
        codes.row(t)[k] = static_cast<uint8_t>(2 * (largest - along.begin()) + (*largest < 0));
      }
    }
  });
  return codes;
}

TokenClusters cluster_tokens(const LayerPlan& chosen, const Matrix<uint8_t>& codes_TK, double share) {
  const moe::DispatchPlan& dispatch = chosen.dispatch;
  const size_t experts = static_cast<size_t>(dispatch.num_experts());
  std::vector<std::vector<Cluster>> clusters_E(experts);
  const auto codes_of = [&](int32_t row) { return codes_TK.row(static_cast<size_t>(dispatch.token_of_row_N[static_cast<size_t>(row)])); };
  parallel_tasks(experts, [&](size_t e) {
    std::vector<int32_t> rows(static_cast<size_t>(dispatch.rows_of(static_cast<int>(e))));
    if (rows.empty()) return;
    std::iota(rows.begin(), rows.end(), dispatch.begin_E1[e]);
    const auto wanted = static_cast<size_t>(std::max(1.0, std::round(share * static_cast<double>(rows.size()))));
    clusters_E[e] = clusters_of(std::move(rows), wanted, codes_of);
  });

  TokenClusters result;
  result.cluster_of_visit_N.assign(dispatch.row_of_visit_N.size(), moe::kNoRow);
  const auto plan = std::make_shared<LayerPlan>();
  plan->routing.num_experts = chosen.routing.num_experts;
  for (size_t e = 0; e < experts; ++e) {
    for (const Cluster& cluster : clusters_E[e]) {
      for (const int32_t row : cluster.rows) {
        const auto visit = static_cast<size_t>(dispatch.visit_of_row_N[static_cast<size_t>(row)]);
        result.cluster_of_visit_N[visit] = static_cast<int32_t>(result.size_C.size());
      }
      result.size_C.push_back(static_cast<int32_t>(cluster.rows.size()));
      plan->routing.experts_N.push_back(static_cast<int32_t>(e));
      plan->routing.weights_N.push_back(1);
      plan->routing.begin_T1.push_back(plan->routing.num_visits());
    }
  }
  plan->dispatch = moe::plan_dispatch(plan->routing);
  result.plan = plan;
  return result;
}

void cluster_means(const LayerPlan& chosen, const TokenClusters& clusters, MatrixView<const float> x_TD, MatrixView<float> mean_CD) {
  for (size_t c = 0; c < mean_CD.rows(); ++c) std::ranges::fill(mean_CD.row(c), 0.0f);
  for_clusters(chosen, clusters, [&](size_t t, size_t, size_t c) {
    add_scaled(1.0f / static_cast<float>(clusters.size_C[c]), x_TD.row(t), mean_CD.row(c));
  });
}

void cluster_means_backward(const LayerPlan& chosen, const TokenClusters& clusters, MatrixView<const float> dmean_CD, MatrixView<float> dx_TD) {
  parallel_ranges(dx_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for_visits(chosen, clusters, t, [&](size_t, size_t c) {
        add_scaled(1.0f / static_cast<float>(clusters.size_C[c]), dmean_CD.row(c), dx_TD.row(t));
      });
    }
  });
}

void spread_clusters(const LayerPlan& chosen, const TokenClusters& clusters, std::span<const float> mix_N, MatrixView<const float> y_CD,
                     MatrixView<float> out_TD) {
  parallel_ranges(out_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for_visits(chosen, clusters, t, [&](size_t visit, size_t c) { add_scaled(mix_N[visit], y_CD.row(c), out_TD.row(t)); });
    }
  });
}

void spread_clusters_backward(const LayerPlan& chosen, const TokenClusters& clusters, std::span<const float> mix_N,
                              MatrixView<const float> y_CD, MatrixView<const float> dout_TD, std::span<float> dmix_N, MatrixView<float> dy_CD) {
  for (size_t c = 0; c < dy_CD.rows(); ++c) std::ranges::fill(dy_CD.row(c), 0.0f);
  std::ranges::fill(dmix_N, 0.0f);
  for_clusters(chosen, clusters, [&](size_t t, size_t visit, size_t c) {
    add_scaled(mix_N[visit], dout_TD.row(t), dy_CD.row(c));
    dmix_N[visit] = dot(dout_TD.row(t), y_CD.row(c));
  });
}

}  // namespace moiety::train
