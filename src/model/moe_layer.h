// The mixture-of-experts block at inference: route, dispatch, experts, combine.
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/weights.h"
#include "moe/route.h"
#include "spec/model_spec.h"

namespace moiety::model {

struct MoeOutput {
  Matrix<float> out_TD;  // what the block adds to the residual stream
  moe::Routing routing;  // which experts did it
};

// x_TD: normed activations.
MoeOutput moe_layer(const kernel::Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights,
                    MatrixView<const float> x_TD);

}  // namespace moiety::model
