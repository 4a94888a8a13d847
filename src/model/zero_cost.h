// What experts that cost nothing give: their input, or a mix of it and a vector of their own (MoE++).
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/weights.h"
#include "moe/route.h"

namespace moiety::model {

// out_TD[t] += weight * expert(x_TD[t]) for all visits, in their order.
void add_zero_cost(const kernel::Compute& compute, const spec::RouterRule& rule, const MoeWeights& weights,
                   const moe::Visits& visits, MatrixView<const float> x_TD, MatrixView<float> out_TD);

}  // namespace moiety::model
