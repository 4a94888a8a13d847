// A square matrix of logarithms made doubly stochastic by dividing rows and columns by their sums again and again (Sinkhorn 1964), and
// the way back. At a low temperature the result is nearly a permutation (Mena et al. 2018, "Learning latent permutations with
// Gumbel-Sinkhorn networks"). In double precision: what is divided by a temperature of 1e-7 has no digits to lose.
#pragma once

#include "base/matrix.h"

namespace moiety::train {

// exp(log / temperature), balanced so many times.
Matrix<double> sinkhorn(MatrixView<const double> log, double temperature, int rounds);

// The gradient of `log`, given that of the result. Holds 2 * rounds matrices while it runs.
Matrix<double> sinkhorn_backward(MatrixView<const double> log, double temperature, int rounds, MatrixView<const double> gradient);

}  // namespace moiety::train
