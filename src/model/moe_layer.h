// The mixture-of-experts block at inference: route, dispatch, experts, combine.
#pragma once

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/weights.h"
#include "moe/route.h"
#include "spec/model_spec.h"
#include "store/expert_store.h"

namespace moiety::model {

struct MoeOutput {
  Matrix<float> out_TD;  // what the block adds to the residual stream
  moe::Routing routing;  // which experts did it
};

// x_TD: normed activations of layer number `layer`, whose experts are in the store. Throws Error(Io) if one can't be read.
MoeOutput moe_layer(const kernel::Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights,
                    store::ExpertStore& store, int layer, MatrixView<const float> x_TD);

}  // namespace moiety::model
