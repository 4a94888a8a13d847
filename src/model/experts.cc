#include "model/experts.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <vector>

namespace moiety::model {
namespace {

using spec::ExpertKind;

struct KindRow {
  ExpertKind kind;
  RunExperts* run;
};
constexpr KindRow kRows[] = {{ExpertKind::FeedForward, run_feed_forwards}, {ExpertKind::Gru, run_grus}};

}  // namespace

void run_experts(const ExpertInputs& inputs, std::span<const ExpertRows> experts, MatrixView<float> y_ND) {
  for (const auto& [kind, run] : kRows) {
    const auto is_own = [kind = kind](const ExpertRows& expert) { return expert.weights->kind == kind; };
    if (std::ranges::all_of(experts, is_own)) return run(inputs, experts, y_ND);
    std::vector<ExpertRows> own;
    std::ranges::copy_if(experts, std::back_inserter(own), is_own);
    if (!own.empty()) run(inputs, own, y_ND);
  }
}

Matrix<float> feed_forward(const kernel::Compute& compute, const ExpertWeights& weights, MatrixView<const float> x_TD) {
  std::vector<int> all(x_TD.rows());
  std::iota(all.begin(), all.end(), 0);
  kernel::Activations x(x_TD);
  const ExpertRows block{&weights, 0, all.size()};
  auto y_TD = Matrix<float>::uninitialised(x_TD.rows(), x_TD.cols());
  run_feed_forwards({compute, spec::Activation::SwiGlu, all, x}, {&block, 1}, y_TD.view());
  return y_TD;
}

}  // namespace moiety::model
