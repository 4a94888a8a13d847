#include "train/permutation_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "moe/assignment.h"

namespace moiety::train {
namespace {

constexpr TrainConfig::Anneal kSearch{.search_steps = 400};

AdamStep adam_at(int64_t step) {
  const double t = static_cast<double>(step + 1);
  return {.learning_rate = 3e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0, .gradient_scale = 1,
          .bias_correction1 = static_cast<float>(1 - std::pow(0.9, t)), .bias_correction2 = static_cast<float>(1 - std::pow(0.95, t))};
}

// One router whose loss is -sum of the shares by which what the gate sends to i goes to the expert `wanted[i]`, wherever that stands.
class Toy {
 public:
  explicit Toy(std::vector<int32_t> wanted, uint64_t seed = 1)
      : search_(kSearch, seed, {static_cast<int>(wanted.size())}), wanted_(std::move(wanted)), expert_at_(wanted_.size()) {
    std::iota(expert_at_.begin(), expert_at_.end(), 0);
  }
  // Returns the loss.
  double step(int64_t step) {
    const WeightMatrix& share_EE = search_.relax(step)[0];
    double loss = 0;
    for (size_t i = 0; i < wanted_.size(); ++i) {
      const size_t place = static_cast<size_t>(std::ranges::find(expert_at_, wanted_[i]) - expert_at_.begin());
      loss -= share_EE.value.row(i)[place];
      share_EE.gradient.row(i)[place] -= 1;
    }
    const std::vector<int32_t> from = search_.follow(step, adam_at(step))[0];
    if (from.empty()) return loss;
    const std::vector<int32_t> before = expert_at_;
    for (size_t place = 0; place < from.size(); ++place) expert_at_[place] = before[static_cast<size_t>(from[place])];
    return loss;
  }
  const std::vector<int32_t>& expert_at() const { return expert_at_; }
  // As a run does that was killed.
  void restart() {
    PermutationSearch fresh(kSearch, 1, {static_cast<int>(wanted_.size())});
    fresh.read_state(search_.state_tensors(), "here");
    search_ = std::move(fresh);
  }

 private:
  PermutationSearch search_;
  std::vector<int32_t> wanted_, expert_at_;
};

TEST(PermutationSearch, FindsThePermutationThatCostsLeastAndEndsWithTheIdentity) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const std::vector<int32_t> wanted{3, 0, 5, 1, 2, 4};
    Toy toy(wanted, seed);
    for (int64_t step = 0; step < kSearch.search_steps; ++step) toy.step(step);
    EXPECT_EQ(toy.expert_at(), wanted) << seed;
  }
}

TEST(PermutationSearch, BeginsWithEveryoneInPlace) {
  PermutationSearch search(kSearch, 1, {7, 3});
  for (const format::TensorView& tensor : search.state_tensors()) {
    if (!tensor.name.ends_with("worth")) continue;
    const auto* numbers = reinterpret_cast<const float*>(tensor.bytes.data());
    const size_t n = static_cast<size_t>(tensor.shape[0]);
    const std::vector<int32_t> best = moe::best_assignment({numbers, n, n});
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(best[i], static_cast<int32_t>(i)) << tensor.name;
  }
}

TEST(PermutationSearch, GoesOnFromItsStateToTheBit) {
  Toy whole({2, 0, 3, 1}), cut({2, 0, 3, 1});
  for (int64_t step = 0; step < 40; ++step) whole.step(step);
  for (int64_t step = 0; step < 20; ++step) cut.step(step);
  cut.restart();
  for (int64_t step = 20; step < 40; ++step) cut.step(step);
  EXPECT_EQ(cut.expert_at(), whole.expert_at());
  EXPECT_EQ(cut.step(40), whole.step(40));
  EXPECT_THROW(PermutationSearch(kSearch, 1, {4}).read_state({}, "nowhere"), Error);
}

}  // namespace
}  // namespace moiety::train
