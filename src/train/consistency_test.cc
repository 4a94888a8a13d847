#include "train/consistency.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace moiety::train {
namespace {

Tensor random_tensor(int64_t rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  const Tensor x = torch::empty({rows, cols});
  for (float& value : flat(x)) value = static_cast<float>(random.normal());
  return x;
}

// Against torch's own divergences in double; more tokens than are taken at once, some without a target.
TEST(Consistency, IsTheMeanOfBothDivergencesWithItsGradients) {
  constexpr int64_t kTokens = 600, kWidth = 12, kVocabulary = 37;
  Tensor a = random_tensor(kTokens, kWidth, 1).set_requires_grad(true), b = random_tensor(kTokens, kWidth, 2).set_requires_grad(true);
  Tensor head = random_tensor(kVocabulary, kWidth, 3) * 0.4f, dhead = torch::zeros_like(head);
  std::vector<int32_t> targets(kTokens, 1);
  for (size_t t = 0; t < targets.size(); t += 7) targets[t] = -1;

  const Tensor loss = mean_consistency(a, b, {view(head), view(dhead)}, targets);
  (3 * loss).backward();

  const auto in_double = [](const Tensor& x) { return x.detach().to(torch::kFloat64).set_requires_grad(true); };
  const Tensor a64 = in_double(a), b64 = in_double(b), head64 = in_double(head);
  const Tensor p = torch::log_softmax(torch::linear(a64, head64), -1), q = torch::log_softmax(torch::linear(b64, head64), -1);
  Tensor counts = torch::empty({kTokens}, torch::kFloat64);
  for (int64_t t = 0; t < kTokens; ++t) counts[t] = targets[static_cast<size_t>(t)] >= 0 ? 1.0 : 0.0;
  const Tensor both = (torch::kl_div(q, p, at::Reduction::None, true) + torch::kl_div(p, q, at::Reduction::None, true)).sum(-1) / 2;
  const Tensor expected = (both * counts).sum() / counts.sum();
  (3 * expected).backward();

  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6);
  EXPECT_GT(expected.item<double>(), 0.1);
  for (const auto& [mine, theirs] : {std::pair{a.grad(), a64.grad()}, std::pair{b.grad(), b64.grad()}, std::pair{dhead, head64.grad()}}) {
    EXPECT_LT((mine.to(torch::kFloat64) - theirs).abs().max().item<double>(), 1e-5 * theirs.abs().max().item<double>() + 1e-8);
  }
}

TEST(Consistency, OfEqualPassesIsNothing) {
  const Tensor a = random_tensor(5, 4, 1), head = random_tensor(9, 4, 2), dhead = torch::zeros_like(head);
  EXPECT_EQ(mean_consistency(a, a, {view(head), view(dhead)}, {0, 1, 2, 3, 4}).item<float>(), 0);
}

}  // namespace
}  // namespace moiety::train
