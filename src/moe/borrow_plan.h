// Which experts ranks borrow from their owners for one pass of a layer: their tokens' visits there then stay at home, and the weights
// travel instead, and their gradients back. Every rank makes the same plan of the same counts.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "moe/placement.h"

namespace moiety::moe {

// In one unit of time: computing a visit; the way of a visit's rows, and of an expert's weights and their gradients, forward and
// backward together, which takes as much at both ends. A visit counts as a row of its own, though a token goes once to a rank.
struct BorrowCosts {
  double visit = 1, row = 0, expert = 0;
};

// Of each rank the experts that it borrows, ascending.
struct BorrowPlan {
  std::vector<std::vector<int>> experts_W;

  bool is_empty() const;
};

// What each rank takes by these costs, nothing hidden behind anything; visits_WE: of each rank's tokens to each expert.
std::vector<double> predicted_times(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowPlan& plan, const BorrowCosts& costs);

// Every expert that a rank's tokens visit: no token travels (as in Hecate: experts gathered sparsely where they are needed).
BorrowPlan borrow_all(const Matrix<int64_t>& visits_WE, const Placement& placement);

// Of the slowest rank one expert after the other is lent to a rank, or borrowed by it, as makes the slower of both fastest, as long as
// both are then faster than it was (as FasterMoE shadows experts: He et al. 2022); or borrow_all, if that is faster still. The slowest
// rank is never slower than without. Among equals the first expert, then the first rank.
BorrowPlan borrow_hot(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowCosts& costs);

}  // namespace moiety::moe
