// The mixture-of-experts block at inference: route, dispatch, experts, combine.
#pragma once

#include <functional>
#include <vector>

#include "base/matrix.h"
#include "kernel/linear.h"
#include "model/expert_states.h"
#include "model/lossy.h"
#include "model/step.h"
#include "model/weights.h"
#include "moe/route.h"
#include "spec/model_spec.h"
#include "store/expert_store.h"

namespace moiety::model {

struct MoeOutput {
  Matrix<float> out_TD;  // what the block adds to the residual stream
  moe::Routing routing;  // which experts did it
};

// x_TD: normed activations of layer number `layer`, whose experts are in the store; logits_TC: what its gate makes of them (model/gate.h);
// `states` say whose rows they are, and what experts keep of these. Throws Error(Io) if one can't be read.
// In the store the experts' copies of low precision, where there are any, follow them: that of expert e is number E + e.
// `while_reading` is called once the store knows what it has to read, for what can be done meanwhile. A chain of experts
// (spec.iterations) visits the store once an iteration; its routing is that of all, a token's iterations one after the other.
MoeOutput moe_layer(const kernel::Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights,
                    store::ExpertStore& store, int layer, MatrixView<const float> x_TD, Matrix<float> logits_TC,
                    const ExpertStates& states, const Lossy& lossy = {}, const std::function<void()>& while_reading = {});

// Which experts an iteration visits for these logits, which may be changed. Parts that have a router of their own have it their way.
moe::Routing route(const spec::MoeSpec& spec, const MoeWeights& weights, int layer, int iteration, MatrixView<float> logits_TC,
                   std::span<const StepPart> parts, const moe::Preference& prefer = {});

// Logits [T, C] of a linear gate for one iteration's rows of the router, in f32, as a choice is not rounded.
Matrix<float> linear_logits(const kernel::Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights, int iteration,
                            MatrixView<const float> x_TD);

// What the tokens ask of a layer's experts, those that none asks for left out.
std::vector<store::Demand> demands_of(const moe::Routing& routing);

}  // namespace moiety::model
