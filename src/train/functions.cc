#include "train/functions.h"

#include "train/gemm.h"
#include "train/head.h"
#include "train/loops.h"
#include "train/parallel.h"
#include "train/permuted_visits.h"

namespace moiety::train {
namespace {

struct Holder : torch::CustomClassHolder {
  explicit Holder(Backward b) : backward(std::move(b)) {}
  Backward backward;
};

constexpr size_t kMostInputs = 3;

class Recorded : public torch::autograd::Function<Recorded> {
 public:
  // Torch sees tensors among the arguments, but not lists of them.
  static tensor_list forward(torch::autograd::AutogradContext* context, const Tensor&, const Tensor&, const Tensor&,
                             const std::function<tensor_list()>& outputs, Backward& backward) {
    context->saved_data["backward"] =
        c10::IValue::make_capsule(c10::make_intrusive<Holder>(std::move(backward)));
    return outputs();
  }

  static tensor_list backward(torch::autograd::AutogradContext* context, tensor_list gradients) {
    const auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["backward"].toCapsule());
    for (Tensor& gradient : gradients) gradient = gradient.contiguous();
    // What the closure holds is freed as soon as it has run: the graph shrinks on the way back.
    const Backward body = std::exchange(holder->backward, nullptr);
    TORCH_CHECK(body != nullptr, "backward a second time through the same graph");
    tensor_list result = body(gradients);
    result.resize(kMostInputs + 2);  // the two arguments that are not tensors
    return result;
  }
};

Tensor empty(size_t rows, size_t cols) {
  return torch::empty({static_cast<int64_t>(rows), static_cast<int64_t>(cols)}, torch::kFloat32);
}

}  // namespace

MatrixView<float> view(const Tensor& x) {
  assert(x.is_contiguous() && x.scalar_type() == torch::kFloat32);
  const size_t cols = static_cast<size_t>(x.size(-1));
  return {x.data_ptr<float>(), static_cast<size_t>(x.numel()) / cols, cols};
}

std::span<float> flat(const Tensor& x) {
  assert(x.is_contiguous() && x.scalar_type() == torch::kFloat32);
  return {x.data_ptr<float>(), static_cast<size_t>(x.numel())};
}

Tensor to_tensor(MatrixView<const float> x) {
  const Tensor out = empty(x.rows(), x.cols());
  for (size_t r = 0; r < x.rows(); ++r) std::ranges::copy(x.row(r), view(out).row(r).begin());
  return out;
}

tensor_list record(const tensor_list& inputs, const tensor_list& outputs, Backward backward) {
  if (!torch::GradMode::is_enabled()) return outputs;
  assert(inputs.size() <= kMostInputs);
  tensor_list padded = inputs;
  padded.resize(kMostInputs, torch::empty({0}));
  return Recorded::apply(padded[0], padded[1], padded[2], std::function<tensor_list()>([&] { return outputs; }),
                         backward);
}

Tensor embed(const Tensor& anchor, const WeightMatrix& table_VD, const std::vector<int32_t>& tokens_T) {
  const Tensor out_TD = empty(tokens_T.size(), table_VD.value.cols());
  parallel_ranges(tokens_T.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      std::ranges::copy(table_VD.value.row(tokens_T[t]), view(out_TD).row(t).begin());
    }
  });
  return record({anchor}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    // Each thread owns some columns, so that a token's gradients are added in the same order in every run.
    parallel_ranges(table_VD.value.cols(), [&](size_t begin, size_t end, size_t) {
      const auto dout_TD = view(dout[0]).middle_cols(begin, end - begin);
      const auto dtable_VD = table_VD.gradient.middle_cols(begin, end - begin);
      for (size_t t = 0; t < tokens_T.size(); ++t) add(dout_TD.row(t), dtable_VD.row(tokens_T[t]));
    });
    return {Tensor()};
  })[0];
}

Tensor rms_norm(const Tensor& x_TD, const WeightVector& weight, float eps) {
  const Tensor out_TD = torch::empty_like(x_TD);
  const size_t tokens = view(x_TD).rows();
  const Tensor inverse_rms_T = torch::empty({static_cast<int64_t>(tokens)});
  parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      flat(inverse_rms_T)[t] = rms_norm(view(x_TD).row(t), weight.value, eps, view(out_TD).row(t));
    }
  });
  return record({x_TD}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dx_TD = torch::empty_like(x_TD);
    Matrix<float> dweights(parallel_parts(), weight.value.size());
    parallel_ranges(tokens, [&](size_t begin, size_t end, size_t part) {
      for (size_t t = begin; t < end; ++t) {
        rms_norm_backward(view(dout[0]).row(t), view(x_TD).row(t), weight.value, flat(inverse_rms_T)[t],
                          view(dx_TD).row(t), dweights.row(part));
      }
    });
    for (size_t part = 0; part < dweights.rows(); ++part) add(dweights.row(part), weight.gradient);
    return {dx_TD};
  })[0];
}

Tensor linear(const Tensor& x, const WeightMatrix& weight, GemmType type) {
  const Tensor y = empty(view(x).rows(), weight.value.rows());
  multiply_nt(type, view(x), {weight.value, weight.packed}, view(y));
  return record({x}, {y}, [=](const tensor_list& dy) -> tensor_list {
    const Tensor dx = torch::empty_like(x);
    multiply_nn(type, view(dy[0]), {weight.value, weight.packed}, view(dx));
    if (weight.gradient.data() != nullptr) multiply_tn(type, view(dy[0]), view(x), weight.gradient, Into::Add);
    return {dx};
  })[0];
}

Tensor add_linear(const Tensor& residual, const Tensor& x, const WeightMatrix& weight, GemmType type) {
  const Tensor y = residual.detach().clone();
  multiply_nt(type, view(x), {weight.value, weight.packed}, view(y), Into::Add);
  return record({residual, x}, {y}, [=](const tensor_list& dy) -> tensor_list {
    const Tensor dx = torch::empty_like(x);
    multiply_nn(type, view(dy[0]), {weight.value, weight.packed}, view(dx));
    multiply_tn(type, view(dy[0]), view(x), weight.gradient, Into::Add);
    return {dy[0], dx};
  })[0];
}

Tensor add_bias(const Tensor& x_TD, const WeightVector& bias_D) {
  const Tensor out_TD = x_TD.detach().clone();
  parallel_ranges(view(out_TD).rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) add(bias_D.value, view(out_TD).row(t));
  });
  return record({x_TD}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    // Each thread owns some numbers of the bias, so that they are summed in the same order in every run.
    parallel_ranges(bias_D.gradient.size(), [&](size_t begin, size_t end, size_t) {
      for (size_t t = 0; t < view(dout[0]).rows(); ++t) {
        add(view(dout[0]).row(t).subspan(begin, end - begin), bias_D.gradient.subspan(begin, end - begin));
      }
    });
    return {dout[0]};
  })[0];
}

Tensor silu_mul(const Tensor& gate_up_T2F) {
  const size_t tokens = view(gate_up_T2F).rows(), hidden = view(gate_up_T2F).cols() / 2;
  const Tensor out_TF = empty(tokens, hidden);
  parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      const auto row = view(gate_up_T2F).row(t);
      silu_mul(row.first(hidden), row.subspan(hidden), view(out_TF).row(t));
    }
  });
  return record({gate_up_T2F}, {out_TF}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dgate_up = torch::empty_like(gate_up_T2F);
    parallel_ranges(tokens, [&](size_t begin, size_t end, size_t) {
      std::vector<float> out(hidden);
      for (size_t t = begin; t < end; ++t) {
        const auto row = view(gate_up_T2F).row(t), drow = view(dgate_up).row(t);
        silu_mul_backward(view(dout[0]).row(t), row.first(hidden), row.subspan(hidden), 1.0f, drow.first(hidden),
                          drow.subspan(hidden), out);
      }
    });
    return {dgate_up};
  })[0];
}

Tensor attend(const Attention& attention, const Tensor& qkv_TQ, const HeadNorms& norms, const std::vector<Segment>& segments,
              const std::shared_ptr<const Ring>& ring) {
  const AttentionWeights weights{norms.query.value, norms.key.value};
  const Tensor out_TD = empty(view(qkv_TQ).rows(), attention.layout().query_width());
  const auto saved = std::make_shared<AttentionSaved>(
      attention.forward(view(qkv_TQ), weights, segments, view(out_TD), ring.get()));
  const Tensor kept_TD = ring == nullptr ? Tensor() : out_TD.detach();
  return record({qkv_TQ}, {out_TD}, [=, &attention](const tensor_list& dout) -> tensor_list {
    const Tensor dqkv_TQ = torch::empty_like(qkv_TQ);
    attention.backward(view(qkv_TQ), weights, segments, *saved, view(dout[0]), view(dqkv_TQ),
                       {norms.query.gradient, norms.key.gradient}, ring == nullptr ? MatrixView<float>() : view(kept_TD), ring.get());
    return {dqkv_TQ};
  })[0];
}

Routed route_to_first(int num_experts, int tokens) {
  const auto plan = std::make_shared<moe::LayerPlan>();
  plan->routing = {.num_experts = num_experts, .experts_N = std::vector<int32_t>(tokens, 0), .weights_N = std::vector<float>(tokens, 1.0f)};
  for (int32_t t = 1; t <= tokens; ++t) plan->routing.begin_T1.push_back(t);
  plan->dispatch = moe::plan_dispatch(plan->routing);
  const Tensor none = torch::tensor(0.0f);
  return {torch::ones({tokens}), torch::zeros({0}), none, none, none, none,
          std::make_shared<const RouterSaved>(RouterSaved{.rule = {.num_experts = num_experts, .experts_per_token = 1}, .plan = plan})};
}

Routed route(const spec::RouterRule& rule, const Tensor& logits_TC, std::span<const float> bias_C, const RouteOrder& order) {
  const auto saved = std::make_shared<const RouterSaved>(router_forward(rule, view(logits_TC), bias_C, order));
  const auto copy = [](const std::vector<float>& x) {
    const Tensor out = torch::empty({static_cast<int64_t>(x.size())});
    std::ranges::copy(x, flat(out).begin());
    return out;
  };
  const tensor_list outputs = record(
      {logits_TC},
      {copy(saved->plan->routing.weights_N), copy(saved->plan->routing.zero_cost.weights_N), torch::tensor(saved->balance.loss),
       torch::tensor(saved->z_loss), torch::tensor(saved->entropy_loss), torch::tensor(saved->spread.loss)},
      [=](const tensor_list& d) -> tensor_list {
        const Tensor dlogits_TC = torch::empty_like(logits_TC);
        router_backward(rule, *saved, view(logits_TC),
                        {flat(d[0]), flat(d[1]), d[2].item<float>(), d[3].item<float>(), d[4].item<float>(), d[5].item<float>()},
                        view(dlogits_TC));
        return {dlogits_TC};
      });
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4], outputs[5], saved};
}

Tensor add_experts(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N,
                   const std::shared_ptr<const moe::LayerPlan>& plan, const LayerExperts& experts) {
  const Tensor out_TD = residual_TD.detach().clone();
  experts_forward(experts, plan->dispatch, flat(mix_N), view(x_TD), view(out_TD));
  return record({residual_TD, x_TD, mix_N}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dx_TD = torch::zeros_like(x_TD), dmix_N = torch::empty_like(mix_N);
    experts_backward(experts, plan->dispatch, flat(mix_N), view(x_TD), view(dout[0]), view(dx_TD), flat(dmix_N));
    return {dout[0], dx_TD, dmix_N};
  })[0];
}

Tensor add_experts(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N, const std::shared_ptr<SpreadExperts>& experts) {
  const Tensor out_TD = residual_TD.detach().clone();
  experts->forward(flat(mix_N), view(x_TD), view(out_TD));
  return record({residual_TD, x_TD, mix_N}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dx_TD = torch::zeros_like(x_TD), dmix_N = torch::empty_like(mix_N);
    experts->backward(flat(mix_N), view(x_TD), view(dout[0]), view(dx_TD), flat(dmix_N));
    return {dout[0], dx_TD, dmix_N};
  })[0];
}

namespace {

using Clusters = std::shared_ptr<const TokenClusters>;
using Plan = std::shared_ptr<const moe::LayerPlan>;

Tensor means(const Tensor& x_TD, const Plan& chosen, const Clusters& clusters) {
  const Tensor mean_CD = empty(clusters->size_C.size(), view(x_TD).cols());
  cluster_means(*chosen, *clusters, view(x_TD), view(mean_CD));
  return record({x_TD}, {mean_CD}, [=](const tensor_list& dmean) -> tensor_list {
    const Tensor dx_TD = torch::zeros_like(x_TD);
    cluster_means_backward(*chosen, *clusters, view(dmean[0]), view(dx_TD));
    return {dx_TD};
  })[0];
}

Tensor add_spread(const Tensor& residual_TD, const Tensor& y_CD, const Tensor& mix_N, const Plan& chosen, const Clusters& clusters) {
  const Tensor out_TD = residual_TD.detach().clone();
  spread_clusters(*chosen, *clusters, flat(mix_N), view(y_CD), view(out_TD));
  return record({residual_TD, y_CD, mix_N}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dy_CD = torch::empty_like(y_CD), dmix_N = torch::empty_like(mix_N);
    spread_clusters_backward(*chosen, *clusters, flat(mix_N), view(y_CD), view(dout[0]), flat(dmix_N), view(dy_CD));
    return {dout[0], dy_CD, dmix_N};
  })[0];
}

// Of each token, the sum of its visits' weights; of those alone that are in a cluster.
Tensor weight_of_tokens(const Tensor& mix_N, const Plan& chosen, const Clusters& clusters) {
  std::vector<int64_t> token_N;
  std::vector<float> counts_N;
  for (int t = 0; t < chosen->routing.num_tokens(); ++t) {
    for (int n = chosen->routing.begin_T1[t]; n < chosen->routing.begin_T1[t + 1]; ++n) {
      token_N.push_back(t);
      counts_N.push_back(clusters->cluster_of_visit_N[static_cast<size_t>(n)] != moe::kNoRow);
    }
  }
  return torch::zeros({chosen->routing.num_tokens()}).scatter_add(0, torch::tensor(token_N), mix_N * torch::tensor(counts_N)).unsqueeze(1);
}

}  // namespace

Tensor add_experts_of_clusters(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_N, const Plan& plan,
                               const RunExperts& run, const Clustering& clustering, MatrixView<const float> frames) {
  const Clusters clusters = std::make_shared<const TokenClusters>(cluster_tokens(*plan, hash_tokens(view(x_TD), frames), clustering.share));
  const Tensor mean_CD = means(x_TD, plan, clusters);
  const Tensor y_CD = run(torch::zeros_like(mean_CD), mean_CD, {torch::ones({mean_CD.size(0)}), clusters->plan});
  if (!clustering.residual) return add_spread(residual_TD, y_CD, mix_N, plan, clusters);
  return add_spread(residual_TD, y_CD - mean_CD, mix_N, plan, clusters) + weight_of_tokens(mix_N, plan, clusters) * x_TD;
}

Permuted permute(const Tensor& mix_N, const std::shared_ptr<const moe::LayerPlan>& chosen, const WeightMatrix& share_EE) {
  const auto plan = permute_visits(chosen->routing, flat(mix_N), share_EE.value);
  const Tensor permuted_N = torch::empty({plan->routing.num_visits()});
  std::ranges::copy(plan->routing.weights_N, flat(permuted_N).begin());
  const tensor_list outputs = record({mix_N}, {permuted_N}, [=](const tensor_list& d) -> tensor_list {
    const Tensor dmix_N = torch::empty_like(mix_N);
    permute_visits_backward(chosen->routing, flat(mix_N), share_EE.value, plan->routing, flat(d[0]), flat(dmix_N), share_EE.gradient);
    return {dmix_N};
  });
  return {outputs[0], plan};
}

Tensor add_zero_cost(const Tensor& residual_TD, const Tensor& x_TD, const Tensor& mix_M, const spec::RouterRule& rule,
                     const moe::Visits& visits, const ConstantWeights& constants) {
  const Tensor out_TD = residual_TD.detach().clone();
  const auto share_TC = std::make_shared<Buffer>(
      zero_cost_forward(rule, visits, flat(mix_M), constants, view(x_TD), view(out_TD)));
  return record({residual_TD, x_TD, mix_M}, {out_TD}, [=](const tensor_list& dout) -> tensor_list {
    const Tensor dx_TD = torch::zeros_like(x_TD), dmix_M = torch::empty_like(mix_M);
    zero_cost_backward(rule, visits, flat(mix_M), constants, view(x_TD), share_TC->view(), view(dout[0]), view(dx_TD), flat(dmix_M));
    return {dout[0], dx_TD, dmix_M};
  })[0];
}

Tensor mean_cross_entropy(const Tensor& x_TD, const WeightMatrix& head_VD, const std::vector<int32_t>& targets_T,
                          GemmType type, std::vector<float>* nats_T) {
  const int64_t counted = std::ranges::count_if(targets_T, [](int32_t target) { return target >= 0; });
  const float factor = 1.0f / static_cast<float>(std::max<int64_t>(1, counted));
  const auto mean = [&](const CrossEntropy& sum) { return torch::tensor(static_cast<float>(sum.nats * factor)); };
  if (!torch::GradMode::is_enabled()) return mean(cross_entropy(type, view(x_TD), {head_VD.value, head_VD.packed}, targets_T));

  const Tensor dx_TD = torch::empty_like(x_TD), dhead_VD = empty(head_VD.value.rows(), head_VD.value.cols());
  CrossEntropy sum = cross_entropy_with_gradients(type, view(x_TD), {head_VD.value, head_VD.packed}, targets_T, factor, view(dx_TD), view(dhead_VD));
  if (nats_T != nullptr) *nats_T = std::move(sum.nats_T);
  return record({x_TD}, {mean(sum)}, [=](const tensor_list& d) -> tensor_list {
    const float upstream = d[0].item<float>();
    parallel_ranges(static_cast<size_t>(dhead_VD.numel()), [&](size_t begin, size_t end, size_t) {
      add_scaled(upstream, flat(dhead_VD).subspan(begin, end - begin),
                 head_VD.gradient.flat().subspan(begin, end - begin));
    });
    return {dx_TD.mul_(upstream)};
  })[0];
}

}  // namespace moiety::train
