#include "train/moe_block.h"

#include "spec/expert_kind.h"
#include "train/gru_experts.h"

namespace moiety::train {

using spec::Role;

std::vector<RouterPlace> routers_of(const spec::ModelSpec& spec) {
  std::vector<RouterPlace> places;
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Dense) continue;
    for (int iteration = 0; iteration < spec.moe.iterations; ++iteration) places.push_back({layer, iteration});
  }
  return places;
}

std::vector<int> experts_by_router(const spec::ModelSpec& spec) {
  std::vector<int> experts_R;
  for (const RouterPlace& place : routers_of(spec)) experts_R.push_back(spec.experts(place.layer));
  return experts_R;
}

bool MoeBlock::has_momentum() const {
  const spec::MomentumSpec& momentum = spec_.moe.momentum;
  const bool has_none = momentum.kind == spec::Momentum::HeavyBall && momentum.decay == 0 && momentum.step == 1;
  return momentum.kind != spec::Momentum::None && !has_none;
}

Tensor MoeBlock::forward(int layer, const Tensor& stream_TD, const Tensor& x_TD, RoutedLayers& routed) {
  if (!has_momentum()) return add_block(layer, stream_TD, x_TD, routed);
  const Tensor y_TD = add_block(layer, torch::zeros_like(stream_TD), x_TD, routed);
  return routed.overflowed ? Tensor() : stream_TD + with_momentum(y_TD, routed);
}

// The whole block but what momentum makes of it.
Tensor MoeBlock::add_block(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed) {
  if (spec_.moe.shared_mix) return add_mixed(layer, sum_TD, x_TD, routed);
  const int last = spec_.moe.iterations - 1;
  Tensor out_TD = sum_TD, h_TD = x_TD;
  for (int iteration = 0; iteration < last; ++iteration) {
    const Tensor y_TD = add_iteration(layer, iteration, torch::zeros_like(h_TD), h_TD, routed);
    if (routed.overflowed) return {};
    out_TD = out_TD + y_TD;
    h_TD = h_TD + y_TD;
  }
  out_TD = add_iteration(layer, last, out_TD, h_TD, routed);
  return spec_.moe.shared_hidden > 0 && !routed.overflowed ? add_shared(layer, out_TD, x_TD, routed) : out_TD;
}

// Undefined after an overflow.
Tensor MoeBlock::add_iteration(int layer, int iteration, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed) {
  const size_t router = routed.first + routed.routes.size();  // of routers_of
  const Routed chosen = choose(layer, iteration, x_TD, routed);
  Permuted visits{chosen.mix_N, chosen.saved->plan};
  if (routed.order.shares != nullptr) visits = permute(visits.mix_N, visits.plan, (*routed.order.shares)[router]);
  if (!moe::fits(routed.order.budget, visits.plan->dispatch)) {
    routed.overflowed = true;
    return {};
  }
  routed.routes.push_back(chosen.saved);
  routed.balance_losses.push_back(chosen.balance_loss);
  routed.z_losses.push_back(chosen.z_loss);
  routed.entropy_losses.push_back(chosen.entropy_loss);
  routed.spread_losses.push_back(chosen.spread_loss);
  const auto with_bias = [&](const Tensor& out_TD) {
    return spec_.moe.output_bias ? add_bias(out_TD, weights_.vector(Role::ExpertsBias, layer)) : out_TD;
  };
  if (spec_.moe.expert_width == 0) return add_free(layer, with_bias(add_routed(layer, sum_TD, x_TD, visits, routed)), x_TD, chosen);
  // Experts that are narrower than the model: what is dispatched and combined is as narrow.
  const Tensor x_TC = linear(x_TD, weights_.matrix(Role::ExpertsDescend, layer), mode_.type);
  const Tensor y_TC = add_routed(layer, torch::zeros_like(x_TC), x_TC, visits, routed);
  const Tensor ascended_TD = add_linear(sum_TD, y_TC, weights_.matrix(Role::ExpertsAscend, layer), mode_.type);
  return add_free(layer, with_bias(ascended_TD), x_TD, chosen);
}

// Routers compute in f32 whatever the mode: a choice is not rounded.
Tensor MoeBlock::router_logits(int layer, int iteration, const Tensor& x_TD, const spec::RouterRule& rule, RoutedLayers& routed) {
  if (spec_.moe.iterations > 1) {  // of linear gates
    const size_t choices = static_cast<size_t>(rule.num_choices());
    WeightMatrix router_CD = weights_.matrix(Role::Router, layer).middle_rows(static_cast<size_t>(iteration) * choices, choices);
    if (!routed.order.router_trained) router_CD.gradient = {};
    return linear(x_TD, router_CD);
  }
  Tensor logits_TC = gates_.logits(layer, x_TD, routed.order.router_trained);
  if (!spec_.moe.router.gating_residual) return logits_TC;
  if (routed.logits_TC.defined()) logits_TC = add_linear(logits_TC, routed.logits_TC, weights_.matrix(Role::GatingResidual, layer));
  return routed.logits_TC = logits_TC;
}

Routed MoeBlock::choose(int layer, int iteration, const Tensor& x_TD, RoutedLayers& routed) {
  const PassOrder& order = routed.order;
  const size_t router = routed.first + routed.routes.size();  // of routers_of
  const spec::RouterRule rule = order.rule(spec_, layer);
  if (order.first_expert_only) return route_to_first(rule.num_experts, static_cast<int>(x_TD.size(0)));

  RouteOrder mine{.balancing = {.scope = order.scope,
                                .sequence = routed.sequence,
                                .zero_cost = order.zero_cost_balance,
                                .sum_over_ranks = order.sum_over_ranks,
                                .with_entropy = routed.with_entropy},
                  .choosing = routed.choosing,
                  .capacity = order.capacity,
                  .round_tokens = order.round_tokens};
  mine.choosing.layer = static_cast<uint64_t>(layer * spec_.moe.iterations + iteration);
  if (order.others != nullptr) {
    mine.balancing.others_E = order.others->of_layer(static_cast<int>(router)).first(static_cast<size_t>(rule.num_choices()));
  }
  if (order.decided != nullptr) mine.decided = (*order.decided)[router];
  if (!routed.decided.empty()) mine.decided = routed.decided[routed.routes.size()]->plan;
  std::span<const float> bias_C;
  if (rule.has_selection_bias) {
    const size_t choices = static_cast<size_t>(rule.num_choices());
    bias_C = weights_.vector(Role::SelectionBias, layer).value.subspan(static_cast<size_t>(iteration) * choices, choices);
  }
  return route(rule, router_logits(layer, iteration, x_TD, rule, routed), bias_C, mine);
}

// What copy and constant experts give.
Tensor MoeBlock::add_free(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Routed& chosen) {
  const spec::RouterRule& rule = spec_.moe.router;
  if (rule.copy_experts + rule.constant_experts == 0) return sum_TD;
  ConstantWeights constants;
  if (rule.constant_experts > 0) constants = {weights_.matrix(Role::ConstantMix, layer), weights_.matrix(Role::ConstantVector, layer)};
  return add_zero_cost(sum_TD, x_TD, chosen.zero_cost_mix_M, rule, chosen.saved->plan->routing.zero_cost, constants);
}

// Here, or wherever they are.
Tensor MoeBlock::add_routed(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Permuted& visits, const RoutedLayers& routed) {
  const Clustering& clustering = routed.order.clustering;
  if (clustering.share == 1) return add_visits(layer, sum_TD, x_TD, visits, routed);
  if (frames_.rows() == 0) frames_ = draw_frames(static_cast<size_t>(spec_.expert_width()), /*seed=*/0);
  const RunExperts run = [&](const Tensor& sum, const Tensor& x, const Permuted& of) { return add_visits(layer, sum, x, of, routed); };
  return add_experts_of_clusters(sum_TD, x_TD, visits.mix_N, visits.plan, run, clustering, frames_.view());
}

// Through the experts that are here, or those of all ranks.
Tensor MoeBlock::add_visits(int layer, const Tensor& sum_TD, const Tensor& x_TD, const Permuted& visits, const RoutedLayers& routed) {
  const MakeExperts make = experts_here(layer);
  if (ranks_ == nullptr) return add_experts(sum_TD, x_TD, visits.mix_N, visits.plan, make(routed.segments));
  const Documents documents = spec_.moe.gru_experts > 0 ? Documents::Whole : Documents::NoMatter;
  return add_experts(sum_TD, x_TD, visits.mix_N,
                     std::make_shared<SpreadExperts>(*ranks_, visits.plan, weights_.placement(layer), make, routed.segments, documents, lendable(layer, visits)));
}

// In the order in which the layer numbers them.
MakeExperts MoeBlock::experts_here(int layer) {
  const ExpertWeights weights = feed_forwards(layer);
  const bool has_grus = spec_.moe.gru_experts > 0 && weights_.experts_here(Role::ExpertGruInput, layer) > 0;
  return [=, this](std::span<const Segment> segments) {
    LayerExperts all;
    if (weights.value.num_experts > 0) all.push_back(feed_forward_experts(mode_, weights));
    if (has_grus) all.push_back(grus(layer, segments));
    return all;
  };
}

// Its feed-forward experts; GRUs look at whole documents, and stay where they are.
Lendable MoeBlock::lendable(int layer, const Permuted& visits) {
  if (ranks_->lend == Lend::Nothing) return {};
  return {static_cast<size_t>(visits.plan->routing.num_experts - spec_.moe.gru_experts), latent_feed_forwards(layer), [this](const ExpertWeights& weights) {
            return LayerExperts{feed_forward_experts(mode_, spec_.moe.ternary_experts ? ternary(weights) : weights)};
          }};
}

// As the optimizer sees them.
ExpertWeights MoeBlock::latent_feed_forwards(int layer) {
  const auto stack = [&](std::span<float> WeightVector::* part) {
    const auto at = [&](Role role) { return (weights_.vector(role, layer).*part).data(); };
    return ExpertStack<float>{weights_.experts_here(Role::ExpertGate, layer), static_cast<size_t>(spec_.expert_width()),
                              static_cast<size_t>(spec_.moe.expert_hidden), at(Role::ExpertGate), at(Role::ExpertUp),
                              at(Role::ExpertDown)};
  };
  const auto [experts, width, hidden, gate, up, down] = stack(&WeightVector::value);
  return {{experts, width, hidden, gate, up, down}, stack(&WeightVector::gradient)};
}

ExpertWeights MoeBlock::feed_forwards(int layer) {
  const ExpertWeights weights = latent_feed_forwards(layer);
  if (weights.value.num_experts == 0) return weights;
  if (spec_.moe.ternary_experts) return ternary(weights);
  const auto packed = [&](Role role) { return weights_.packed(role, layer); };
  return {weights.value, weights.gradient, {packed(Role::ExpertGate), packed(Role::ExpertUp), packed(Role::ExpertDown)}};
}

std::shared_ptr<ExpertsOfKind> MoeBlock::grus(int layer, std::span<const Segment> segments) {
  const auto stack = [&](std::span<float> WeightVector::* part) {
    const auto at = [&](Role role) { return (weights_.vector(role, layer).*part).data(); };
    return GruStack<float>{weights_.experts_here(Role::ExpertGruInput, layer), static_cast<size_t>(spec_.expert_width()),
                           static_cast<size_t>(spec_.moe.gru_hidden), at(Role::ExpertGruInput), at(Role::ExpertGruState),
                           at(Role::ExpertGruOutput), at(Role::ExpertGruInputBias), at(Role::ExpertGruStateBias)};
  };
  const auto [experts, width, hidden, input, state, output, input_bias, state_bias] = stack(&WeightVector::value);
  const size_t first = weights_.experts_here(Role::ExpertGate, layer);
  return gru_experts(mode_.type, first, {experts, width, hidden, input, state, output, input_bias, state_bias},
                     stack(&WeightVector::gradient), segments);
}

Tensor MoeBlock::add_shared(int layer, const Tensor& sum_TD, const Tensor& x_TD, const RoutedLayers& routed) {
  const Tensor all_TD = gather_tokens(x_TD, routed.together);
  const Tensor hidden = silu_mul(linear(all_TD, weights_.joined(Role::SharedGate, Role::SharedUp, layer), mode_.type));
  const WeightMatrix down = weights_.matrix(Role::SharedDown, layer);
  if (!spec_.moe.shared_gate) return add_linear_slice(sum_TD, hidden, down, mode_.type, routed.together);
  const Tensor scale_T1 = torch::sigmoid(linear(x_TD, weights_.matrix(Role::SharedScale, layer)));
  return sum_TD + scale_T1 * sum_tokens(linear(hidden, down, mode_.type), routed.together);
}

// Routed and shared experts, each by its share of a softmax.
Tensor MoeBlock::add_mixed(int layer, const Tensor& sum_TD, const Tensor& x_TD, RoutedLayers& routed) {
  const Tensor share_T2 = torch::softmax(linear(x_TD, weights_.matrix(Role::SharedScale, layer)), -1);
  const Tensor nothing_TD = torch::zeros_like(x_TD);
  const Tensor routed_TD = add_iteration(layer, 0, nothing_TD, x_TD, routed);
  if (routed.overflowed) return {};
  const Tensor shared_TD = add_shared(layer, nothing_TD, x_TD, routed);
  return sum_TD + share_T2.slice(1, 0, 1) * routed_TD + share_T2.slice(1, 1, 2) * shared_TD;
}

// What is added to the stream for a block's output (spec::Momentum).
Tensor MoeBlock::with_momentum(const Tensor& y_TD, RoutedLayers& routed) const {
  const spec::MomentumSpec& m = spec_.moe.momentum;
  Tensor &p_TD = routed.momentum_TD, &v_TD = routed.squares_TD;
  if (!p_TD.defined()) p_TD = v_TD = torch::zeros_like(y_TD);
  if (m.kind == spec::Momentum::HeavyBall) {
    p_TD = m.decay * p_TD + y_TD;
    return m.step * p_TD;
  }
  p_TD = m.decay * p_TD + (1 - m.decay) * y_TD;
  v_TD = m.square_decay * v_TD + (1 - m.square_decay) * y_TD * y_TD;
  return m.step * p_TD * torch::rsqrt(v_TD + m.eps);
}

}  // namespace moiety::train
