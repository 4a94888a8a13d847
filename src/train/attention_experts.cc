#include "train/attention_experts.h"

namespace moiety::train {
namespace {

using spec::Role;

// The rows of x that an expert's are, one after the other; or back.
void gather(const Tensor& x_N, std::span<const int32_t> rows, const Tensor& to_R) {
  for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(view(x_N).row(static_cast<size_t>(rows[r])), view(to_R).row(r).begin());
}
void scatter(const Tensor& from_R, std::span<const int32_t> rows, const Tensor& x_N) {
  for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(view(from_R).row(r), view(x_N).row(static_cast<size_t>(rows[r])).begin());
}

// body(weight of an expert that is visited, its visits)
template <class Body>
void for_each_visited(const moe::DispatchPlan& plan, const WeightMatrix& weight, const Body& body) {
  const size_t out = weight.value.rows() / static_cast<size_t>(plan.num_experts());
  for (int e = 0; e < plan.num_experts(); ++e) {
    if (plan.rows_of(e) == 0) continue;
    body(weight.middle_rows(static_cast<size_t>(e) * out, out),
         std::span(plan.visit_of_row_N).subspan(static_cast<size_t>(plan.begin_E1[e]), static_cast<size_t>(plan.rows_of(e))));
  }
}

}  // namespace

Tensor expert_linear(const Tensor& x_NI, std::shared_ptr<const moe::DispatchPlan> plan, const WeightMatrix& weight, GemmType type) {
  const int64_t out = static_cast<int64_t>(weight.value.rows()) / plan->num_experts(), in = x_NI.size(1);
  const Tensor y_NO = torch::empty({x_NI.size(0), out});
  for_each_visited(*plan, weight, [&](const WeightMatrix& w, std::span<const int32_t> visits) {
    const auto rows = static_cast<int64_t>(visits.size());
    const Tensor x_RI = torch::empty({rows, in}), y_RO = torch::empty({rows, out});
    gather(x_NI, visits, x_RI);
    multiply_nt(type, view(x_RI), w.value, view(y_RO));
    scatter(y_RO, visits, y_NO);
  });
  return record({x_NI}, {y_NO}, [=](const tensor_list& dy) -> tensor_list {
    const Tensor dx_NI = torch::empty_like(x_NI);
    for_each_visited(*plan, weight, [&](const WeightMatrix& w, std::span<const int32_t> visits) {
      const auto rows = static_cast<int64_t>(visits.size());
      const Tensor x_RI = torch::empty({rows, in}), dx_RI = torch::empty({rows, in}), dy_RO = torch::empty({rows, out});
      gather(x_NI, visits, x_RI);
      gather(dy[0], visits, dy_RO);
      multiply_nn(type, view(dy_RO), w.value, view(dx_RI));
      multiply_tn(type, view(dy_RO), view(x_RI), w.gradient, Into::Add);
      scatter(dx_RI, visits, dx_NI);
    });
    return {dx_NI};
  })[0];
}

Tensor add_attention_experts(const spec::ModelSpec& spec, Weights& weights, const Mode& mode, const Attention& attention, int layer,
                             const Tensor& stream_TD, const Tensor& x_TD, const std::vector<Segment>& segments,
                             RoutedLayers& routed) {
  const spec::AttentionSpec& a = spec.attention;
  const int64_t tokens = x_TD.size(0), width = x_TD.size(1), per_token = a.experts->experts_per_token, kv_heads = a.num_kv_heads;
  const int64_t group = a.expert_heads() / kv_heads * a.head_dim;  // an expert's numbers for a key-value head

  // Router
  const Tensor logits_TE = linear(x_TD, weights.matrix(Role::AttentionRouter, layer));
  const Routed chosen =
      route(a.experts->rule(), logits_TE, {},
            {.balancing = {.sum_over_ranks = routed.order.sum_over_ranks, .with_entropy = routed.with_entropy}});
  routed.balance_losses.push_back(chosen.balance_loss);
  routed.z_losses.push_back(chosen.z_loss);
  routed.entropy_losses.push_back(chosen.entropy_loss);
  routed.spread_losses.push_back(chosen.spread_loss);
  const auto plan = std::shared_ptr<const moe::DispatchPlan>(chosen.saved->plan, &chosen.saved->plan->dispatch);

  // Queries by visit, then by the head that they look at: those of one key-value head side by side
  const Tensor x_ND = x_TD.unsqueeze(1).expand({tokens, per_token, width}).reshape({tokens * per_token, width}).contiguous();
  const Tensor query_NQ = expert_linear(x_ND, plan, weights.matrix(Role::AttentionExpertQuery, layer), mode.type);
  const Tensor query_TQ = query_NQ.reshape({tokens, per_token, kv_heads, group}).transpose(1, 2).reshape({tokens, kv_heads * per_token * group});
  const Tensor kv_TK = linear(x_TD, weights.joined(Role::Key, Role::Value, layer), mode.type);

  HeadNorms norms;
  if (a.qk_norm != spec::QkNorm::None) norms = {weights.vector(Role::QueryNorm, layer), weights.vector(Role::KeyNorm, layer)};
  const Tensor mixed_TQ = attend(attention, torch::cat({query_TQ, kv_TK}, 1), norms, segments, routed.ring);

  // Outputs, the way back
  const Tensor mixed_NQ =
      mixed_TQ.reshape({tokens, kv_heads, per_token, group}).transpose(1, 2).reshape({tokens * per_token, kv_heads * group}).contiguous();
  const Tensor out_ND = expert_linear(mixed_NQ, plan, weights.matrix(Role::AttentionExpertOutput, layer), mode.type);
  return stream_TD + (chosen.mix_N.unsqueeze(1) * out_ND).reshape({tokens, per_token, width}).sum(1);
}

}  // namespace moiety::train
