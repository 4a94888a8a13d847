// Attention whose queries and outputs are experts (spec::AttentionExperts), with gradients: each token's heads are those of the
// experts that it chose; keys and values are the layer's.
#pragma once

#include "moe/dispatch_plan.h"
#include "train/moe_block.h"

namespace moiety::train {

// What every visit's row of x_NI becomes at its expert: rows of `weight` are those of all experts' matrices, one after the other.
Tensor expert_linear(const Tensor& x_NI, std::shared_ptr<const moe::DispatchPlan> plan, const WeightMatrix& weight,
                     GemmType type = GemmType::F32);

// stream_TD + attention of its norm's x_TD. What `spec`, `weights` and `attention` are is the model's.
Tensor add_attention_experts(const spec::ModelSpec& spec, Weights& weights, const Mode& mode, const Attention& attention, int layer,
                             const Tensor& stream_TD, const Tensor& x_TD, const std::vector<Segment>& segments,
                             RoutedLayers& routed);

}  // namespace moiety::train
