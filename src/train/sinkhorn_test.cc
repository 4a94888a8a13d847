#include "train/sinkhorn.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "train/torch.h"

namespace moiety::train {
namespace {

Matrix<double> random_matrix(size_t n, uint64_t seed) {
  Matrix<double> x(n, n);
  Random random(seed);
  for (double& value : x.flat()) value = random.normal();
  return x;
}

torch::Tensor tensor_of(const Matrix<double>& x) {
  const auto n = static_cast<int64_t>(x.rows());
  return torch::from_blob(const_cast<double*>(x.flat().data()), {n, n}, torch::kFloat64).clone();
}

TEST(Sinkhorn, IsTheSameStepsInTorchThereAndBack) {
  for (const double temperature : {2.0, 0.5, 0.05}) {
    const Matrix<double> log = random_matrix(5, 1), probe = random_matrix(5, 2);
    const torch::Tensor leaf = tensor_of(log).set_requires_grad(true);
    torch::Tensor x = leaf / temperature;
    for (int round = 0; round < 7; ++round) {
      x = x - torch::logsumexp(x, 1, true);
      x = x - torch::logsumexp(x, 0, true);
    }
    (x.exp() * tensor_of(probe)).sum().backward();

    const Matrix<double> mine = sinkhorn(log.view(), temperature, 7);
    EXPECT_LT((tensor_of(mine) - x.exp()).abs().max().item<double>(), 1e-12);
    const Matrix<double> gradient = sinkhorn_backward(log.view(), temperature, 7, probe.view());
    EXPECT_LT((tensor_of(gradient) - leaf.grad()).abs().max().item<double>(), 1e-9 * (1 + leaf.grad().abs().max().item<double>()));
  }
}

TEST(Sinkhorn, RowsAndColumnsSumToOneAndColdOnesArePermutations) {
  Matrix<double> log = random_matrix(6, 3);
  for (size_t i = 0; i < 6; ++i) log.row(i)[(5 * i + 2) % 6] += 4;
  for (const double temperature : {1.0, 1e-2}) {
    const Matrix<double> x = sinkhorn(log.view(), temperature, 150);
    for (size_t i = 0; i < 6; ++i) {
      double row = 0, column = 0;
      for (size_t k = 0; k < 6; ++k) {
        row += x.row(i)[k];
        column += x.row(k)[i];
        if (temperature < 1) {
          EXPECT_TRUE(x.row(i)[k] < 1e-6 || x.row(i)[k] > 1 - 1e-6);
        }
      }
      EXPECT_NEAR(column, 1, 1e-12);
      EXPECT_NEAR(row, 1, 1e-5);
    }
  }
}

}  // namespace
}  // namespace moiety::train
