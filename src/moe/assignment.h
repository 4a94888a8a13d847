// Who is matched with whom, one to one, so that the sum of what the pairs are worth is the largest (Kuhn 1955, "The Hungarian method
// for the assignment problem").
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"

namespace moiety::moe {

// The column of each row of a square matrix. O(n^3); a function of the numbers alone.
std::vector<int32_t> best_assignment(MatrixView<const float> worth);

}  // namespace moiety::moe
