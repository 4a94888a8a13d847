#include "train/permutation_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "moe/assignment.h"
#include "train/sinkhorn.h"

namespace moiety::train {
namespace {

constexpr uint64_t kBegin = 0x7065726d757465, kNoise = 0x67756d62656c;  // streams of random numbers apart from all others
constexpr double kWorth = 0.05;                                         // A begins within +- this
constexpr double kFall = 1e-4;                                          // of the temperature, over the search
constexpr int kFirstRounds = 20, kLastRounds = 150;
constexpr double kLeastShare = 0x1p-20;  // less is no visit

bool is_identity(const std::vector<int32_t>& places) {
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i] != static_cast<int32_t>(i)) return false;
  }
  return true;
}

void permute_columns(const std::vector<int32_t>& from, MatrixView<float> x) {
  std::vector<float> old(x.cols());
  for (size_t r = 0; r < x.rows(); ++r) {
    std::ranges::copy(x.row(r), old.begin());
    for (size_t c = 0; c < x.cols(); ++c) x.row(r)[c] = old[static_cast<size_t>(from[c])];
  }
}

}  // namespace

PermutationSearch::PermutationSearch(const TrainConfig::Anneal& config, uint64_t seed, const std::vector<int>& experts_R)
    : config_(config), seed_(seed) {
  for (size_t r = 0; r < experts_R.size(); ++r) {
    const size_t n = static_cast<size_t>(experts_R[r]);
    Router& router = routers_.emplace_back(Router{Matrix<float>(n, n), Matrix<float>(n, n), Matrix<float>(n, n), Matrix<float>(n, n), Matrix<float>(n, n)});
    Random random(seed ^ kBegin, r);
    for (float& x : router.worth_EE.flat()) x = static_cast<float>(kWorth * (2 * random.uniform() - 1));
    // The experts stay where they are: they may know something already.
    permute_columns(moe::best_assignment(std::as_const(router.worth_EE).view()), router.worth_EE.view());
  }
  for (Router& router : routers_) shares_.push_back({router.share_EE.view(), router.gradient_EE.view()});
}

double PermutationSearch::progress(int64_t step) const {
  return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, config_.search_steps));
}
double PermutationSearch::temperature(int64_t step) const { return config_.search_temperature * std::pow(kFall, progress(step)); }
int PermutationSearch::rounds(int64_t step) const {
  return kFirstRounds + static_cast<int>(progress(step) * (kLastRounds - kFirstRounds));
}

// The noise is a function of seed, step and router.
Matrix<double> PermutationSearch::noisy_worth(size_t router, int64_t step) const {
  const Matrix<float>& worth_EE = routers_[router].worth_EE;
  Matrix<double> noisy_EE(worth_EE.rows(), worth_EE.cols());
  Random random(Random(seed_ ^ kNoise, static_cast<uint64_t>(step)).next(), router);
  for (size_t i = 0; i < noisy_EE.flat().size(); ++i) {
    const double gumbel = -std::log(-std::log(std::max(random.uniform(), 1e-12)));
    noisy_EE.flat()[i] = worth_EE.flat()[i] + config_.search_noise * gumbel;
  }
  return noisy_EE;
}

const std::vector<WeightMatrix>& PermutationSearch::relax(int64_t step) {
  for (size_t r = 0; r < routers_.size(); ++r) {
    const Matrix<double> share_EE = sinkhorn(std::as_const(*this).noisy_worth(r, step).view(), temperature(step), rounds(step));
    for (size_t i = 0; i < share_EE.flat().size(); ++i) {
      const double share = share_EE.flat()[i];
      routers_[r].share_EE.flat()[i] = share < kLeastShare ? 0.0f : static_cast<float>(share);
    }
    std::ranges::fill(routers_[r].gradient_EE.flat(), 0.0f);
  }
  return shares_;
}

std::vector<std::vector<int32_t>> PermutationSearch::follow(int64_t step, const AdamStep& adam) {
  std::vector<std::vector<int32_t>> moves;
  for (size_t r = 0; r < routers_.size(); ++r) {
    Router& router = routers_[r];
    // Of the loss, and of the entropy by which shares are kept apart
    Matrix<double> dshare_EE(router.share_EE.rows(), router.share_EE.cols());
    for (size_t i = 0; i < dshare_EE.flat().size(); ++i) {
      const double share = router.share_EE.flat()[i];
      const double dentropy = share > 0 ? -std::log(share) - 1 : 0;
      dshare_EE.flat()[i] = router.gradient_EE.flat()[i] + config_.search_entropy * dentropy;
    }
    const Matrix<double> dworth_EE =
        sinkhorn_backward(std::as_const(*this).noisy_worth(r, step).view(), temperature(step), rounds(step), std::as_const(dshare_EE).view());
    std::vector<float> gradient(dworth_EE.flat().begin(), dworth_EE.flat().end());
    adamw(adam, gradient, router.worth_EE.flat(), router.first_EE.flat(), router.second_EE.flat());

    std::vector<int32_t> places = moe::best_assignment(std::as_const(router.worth_EE).view());
    if (is_identity(places)) places.clear();
    if (!places.empty()) {
      for (Matrix<float>* m : {&router.worth_EE, &router.first_EE, &router.second_EE}) permute_columns(places, m->view());
    }
    moves.push_back(std::move(places));
  }
  return moves;
}

std::vector<format::TensorView> PermutationSearch::state_tensors() {
  std::vector<format::TensorView> tensors;
  for (size_t r = 0; r < routers_.size(); ++r) {
    Router& router = routers_[r];
    const auto n = static_cast<int64_t>(router.worth_EE.rows());
    const auto add = [&](const char* name, Matrix<float>& m) {
      tensors.push_back({fmt::format("permutation.{}.{}", r, name), spec::ElementType::F32, {n, n}, std::as_bytes(m.flat())});
    };
    add("worth", router.worth_EE);
    add("first_moment", router.first_EE);
    add("second_moment", router.second_EE);
  }
  return tensors;
}

void PermutationSearch::read_state(const std::vector<format::TensorView>& tensors, const std::string& where) {
  for (const format::TensorView& mine : state_tensors()) {
    const auto found = std::ranges::find(tensors, mine.name, &format::TensorView::name);
    require(found != tensors.end() && found->type == mine.type && found->shape == mine.shape,
            "{}: tensor {} is missing or has another shape: the checkpoint was written without anneal.search_steps", where, mine.name);
    std::memcpy(const_cast<std::byte*>(mine.bytes.data()), found->bytes.data(), mine.bytes.size());
  }
}

}  // namespace moiety::train
