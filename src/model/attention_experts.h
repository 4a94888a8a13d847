// Attention whose queries and outputs are experts (spec::AttentionExperts): which of them each token takes, its queries, and what
// comes out. What is between is model/attention's.
#pragma once

#include "kernel/linear.h"
#include "model/weights.h"
#include "moe/dispatch_plan.h"
#include "spec/model_spec.h"

namespace moiety::model {

struct AttentionChoice {
  moe::Routing routing;
  moe::DispatchPlan plan;
};

// Which experts, by a router in f32.
AttentionChoice choose_attention_experts(const kernel::Compute& compute, const spec::AttentionSpec& spec,
                                         const AttentionExpertWeights& weights, MatrixView<const float> x_TD);

// The heads of each token's experts, those that look at one key-value head side by side: [T, heads * head_dim].
void expert_queries(const kernel::Compute& compute, const spec::AttentionSpec& spec, const AttentionExpertWeights& weights,
                    const AttentionChoice& choice, MatrixView<const float> x_TD, MatrixView<float> query_TQ);

// What came of those heads, through their experts' output matrices, weighted and summed in the order of the choice.
void expert_outputs(const kernel::Compute& compute, const spec::AttentionSpec& spec, const AttentionExpertWeights& weights,
                    const AttentionChoice& choice, MatrixView<const float> mixed_TQ, MatrixView<float> out_TD);

}  // namespace moiety::model
