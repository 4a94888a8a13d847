// The steps of the model as operations of torch's graph: each runs our own forward arithmetic and hangs the matching
// backward into the graph. Gradients of weights are added to the Weights' own memory on the way back; the graph
// carries only those of activations. A GemmType says what matrix products are computed in.
#pragma once

#include <functional>
#include <memory>

#include "moe/dispatch_plan.h"
#include "train/attention.h"
#include "train/experts.h"
#include "train/router.h"
#include "train/spread_experts.h"
#include "train/token_clusters.h"
#include "train/torch.h"
#include "train/weights.h"
#include "train/zero_cost.h"

namespace moiety::train {

using torch::Tensor;
using torch::autograd::tensor_list;

MatrixView<float> view(const Tensor& x);  // of a contiguous f32 tensor; the last axis is the columns
std::span<float> flat(const Tensor& x);
Tensor to_tensor(MatrixView<const float> x);  // a copy

// `outputs`, made outside the graph from `inputs`, become nodes of it. `backward` gets the outputs' gradients (dense,
// zeros where nothing flowed back) and returns the inputs'.
using Backward = std::function<tensor_list(const tensor_list&)>;
tensor_list record(const tensor_list& inputs, const tensor_list& outputs, Backward backward);

// The graph starts here, at a tensor that requires a gradient and never gets one.
Tensor embed(const Tensor& anchor, const WeightMatrix& table_VD, const std::vector<int32_t>& tokens_T);

Tensor rms_norm(const Tensor& x_TD, const WeightVector& weight, float eps);
// A weight without memory for its gradient gets none: it is not trained.
Tensor linear(const Tensor& x, const WeightMatrix& weight, GemmType type = GemmType::F32);
// residual + linear(x, weight)
Tensor add_linear(const Tensor& residual, const Tensor& x, const WeightMatrix& weight, GemmType type = GemmType::F32);
// x with the bias added to every row
Tensor add_bias(const Tensor& x_TD, const WeightVector& bias_D);
// A row holds gate and up: silu(gate) * up.
Tensor silu_mul(const Tensor& gate_up_T2F);

struct HeadNorms {
  WeightVector query, key;  // empty without qk_norm
};
Tensor attend(const Attention& attention, const Tensor& qkv_TQ, const HeadNorms& norms, const std::vector<Segment>& segments,
              const std::shared_ptr<const Ring>& ring = nullptr);

struct Routed {
  Tensor mix_N, zero_cost_mix_M, balance_loss, z_loss, entropy_loss, spread_loss;
  std::shared_ptr<const RouterSaved> saved;
};
// Before experts are spawned: every token visits the first with weight 1, and no router learns.
Routed route_to_first(int num_experts, int tokens);
Routed route(const spec::RouterRule& rule, const Tensor& logits_TC, std::span<const float> bias_C, const RouteOrder& order = {});

// residual + the experts' results, mixed. `plan` is the one that mix_N was made for, and serves the way back too, as do the experts.
Tensor add_experts(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N,
                   const std::shared_ptr<const moe::LayerPlan>& plan, const LayerExperts& experts);

// The same with experts that are spread over ranks; `experts` is of this pass alone. Collective, and so is the way back.
Tensor add_experts(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N, const std::shared_ptr<SpreadExperts>& experts);

// The visits that come of chosen ones when what the gate sends to an expert is shared among others (train/permuted_visits.h).
struct Permuted {
  Tensor mix_N;
  std::shared_ptr<const moe::LayerPlan> plan;
};
Permuted permute(const Tensor& mix_N, const std::shared_ptr<const moe::LayerPlan>& chosen, const WeightMatrix& share_EE);

// add_experts() of clusters of similar tokens (train/token_clusters.h): `run` gets their means as tokens of their own.
using RunExperts = std::function<Tensor(const Tensor& residual_TD, const Tensor& x_TD, const Permuted& visits)>;
Tensor add_experts_of_clusters(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N,
                               const std::shared_ptr<const moe::LayerPlan>& plan, const RunExperts& run, const Clustering& clustering,
                               MatrixView<const float> frames);

// residual + what the experts give that cost nothing, mixed
Tensor add_zero_cost(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_M, const spec::RouterRule& rule,
                     const moe::Visits& visits, const ConstantWeights& constants);

// Mean over the positions that have a target; on wish also what each of them costs, the others 0.
Tensor mean_cross_entropy(const Tensor& x_TD, const WeightMatrix& head_VD, const std::vector<int32_t>& targets_T,
                          GemmType type = GemmType::F32, std::vector<float>* nats_T = nullptr);

}  // namespace moiety::train
