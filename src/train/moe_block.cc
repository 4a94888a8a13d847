#include "train/moe_block.h"

namespace moiety::train {

using spec::Role;

Tensor MoeBlock::forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed) {
  const Routed chosen = choose(layer, x_TD, routed);
  if (!moe::fits(routed.order.budget, chosen.saved->plan->dispatch)) {
    routed.overflowed = true;
    return {};
  }
  routed.routes.push_back(chosen.saved);
  routed.balance_losses.push_back(chosen.balance_loss);
  routed.z_losses.push_back(chosen.z_loss);
  routed.entropy_losses.push_back(chosen.entropy_loss);
  Tensor sum_TD = add_experts(stream_TD, x_TD, chosen.mix_N, chosen.saved->plan, experts(layer), mode_);
  sum_TD = add_free(layer, sum_TD, x_TD, chosen);
  return spec_.moe.shared_hidden > 0 ? add_shared(layer, sum_TD, x_TD) : sum_TD;
}

// Routers compute in f32 whatever the mode: a choice is not rounded.
Tensor MoeBlock::router_logits(int layer, const Tensor& x_TD, RoutedLayers& routed) {
  Tensor logits_TC = gates_.logits(layer, x_TD, routed.order.router_trained);
  if (!spec_.moe.router.gating_residual) return logits_TC;
  if (routed.logits_TC.defined()) logits_TC = add_linear(logits_TC, routed.logits_TC, weights_.matrix(Role::GatingResidual, layer));
  return routed.logits_TC = logits_TC;
}

Routed MoeBlock::choose(int layer, const Tensor& x_TD, RoutedLayers& routed) {
  const PassOrder& order = routed.order;
  const size_t moe_layer = routed.first + routed.routes.size();
  const spec::RouterRule rule = order.rule(spec_, layer);
  if (order.first_expert_only) return route_to_first(rule.num_experts, static_cast<int>(x_TD.size(0)));

  RouteOrder mine{.balancing = {.scope = order.scope, .sequence = routed.sequence, .with_entropy = routed.with_entropy},
                  .choosing = routed.choosing,
                  .capacity = order.capacity,
                  .round_tokens = order.round_tokens};
  mine.choosing.layer = static_cast<uint64_t>(layer);
  if (order.others != nullptr) mine.balancing.others_E = order.others->of_layer(static_cast<int>(moe_layer));
  if (order.decided != nullptr) mine.decided = (*order.decided)[moe_layer];
  if (!routed.decided.empty()) mine.decided = routed.decided[routed.routes.size()]->plan;
  return route(rule, router_logits(layer, x_TD, routed),
               rule.has_selection_bias ? weights_.vector(Role::SelectionBias, layer).value : std::span<float>(), mine);
}

// What copy and constant experts give.
Tensor MoeBlock::add_free(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Routed& chosen) {
  const spec::RouterRule& rule = spec_.moe.router;
  if (rule.copy_experts + rule.constant_experts == 0) return sum_TD;
  ConstantWeights constants;
  if (rule.constant_experts > 0) constants = {weights_.matrix(Role::ConstantMix, layer), weights_.matrix(Role::ConstantVector, layer)};
  return add_zero_cost(sum_TD, x_TD, chosen.zero_cost_mix_M, rule, chosen.saved->plan->routing.zero_cost, constants);
}

ExpertWeights MoeBlock::experts(int layer) {
  const auto pointers = [&](auto part) {
    return ExpertStack<float>{static_cast<size_t>(spec_.moe.router.num_experts), static_cast<size_t>(spec_.width),
                              static_cast<size_t>(spec_.moe.expert_hidden), part(Role::ExpertGate),
                              part(Role::ExpertUp), part(Role::ExpertDown)};
  };
  const auto value = pointers([&](Role role) { return weights_.vector(role, layer).value.data(); });
  const auto gradient = pointers([&](Role role) { return weights_.vector(role, layer).gradient.data(); });
  return {{value.num_experts, value.width, value.hidden, value.gate, value.up, value.down}, gradient};
}

Tensor MoeBlock::add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD) {
  const Tensor hidden = silu_mul(linear(x_TD, weights_.joined(Role::SharedGate, Role::SharedUp, layer), mode_.type));
  const WeightMatrix down = weights_.matrix(Role::SharedDown, layer);
  if (!spec_.moe.shared_gate) return add_linear(sum_TD, hidden, down, mode_.type);
  const Tensor scale_T1 = torch::sigmoid(linear(x_TD, weights_.matrix(Role::SharedScale, layer)));
  return sum_TD + scale_T1 * linear(hidden, down, mode_.type);
}

}  // namespace moiety::train
