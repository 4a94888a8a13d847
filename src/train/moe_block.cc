#include "train/moe_block.h"

namespace moiety::train {

using spec::Role;

Tensor MoeBlock::forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed) {
  const Routed chosen = choose(layer, x_TD, routed);
  const Tensor sum_TD = add_experts(stream_TD, x_TD, chosen.mix_N, chosen.saved->routing, experts(layer), mode_);
  return spec_.moe.shared_hidden > 0 ? add_shared(layer, sum_TD, x_TD) : sum_TD;
}

// Routers compute in f32 whatever the mode: a choice is not rounded.
Routed MoeBlock::choose(int layer, const Tensor& x_TD, RoutedLayers& routed) {
  const Tensor logits_TE = linear(x_TD, weights_.matrix(Role::Router, layer));
  const size_t nth = routed.routes.size();
  const bool biased = spec_.moe.router.has_selection_bias;
  const auto bias_E = biased ? weights_.vector(Role::SelectionBias, layer).value : std::span<float>();
  const Routed chosen = nth < routed.decided.size() ? route_as_decided(spec_.moe.router, logits_TE, routed.decided[nth])
                                                    : route(spec_.moe.router, logits_TE, bias_E, routed.round_tokens);
  routed.routes.push_back(chosen.saved);
  routed.balance_losses.push_back(chosen.balance_loss);
  routed.z_losses.push_back(chosen.z_loss);
  return chosen;
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
