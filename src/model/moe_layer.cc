#include "model/moe_layer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "model/elementwise.h"
#include "model/experts.h"
#include "model/gating_residual.h"
#include "model/zero_cost.h"
#include "moe/dispatch_plan.h"
#include "moe/join.h"

namespace moiety::model {
namespace {

using kernel::Compute;
using moe::DispatchPlan;
using moe::Routing;

// What the shared experts' output is multiplied with, a factor a token.
std::vector<float> shared_scales(const Compute& compute, const MoeWeights& weights, MatrixView<const float> x_TD) {
  std::vector<float> scale_T(x_TD.rows(), 1.0f);
  if (weights.shared_scale.empty()) return scale_T;
  kernel::exact_linear(compute, x_TD, weights.shared_scale, {scale_T.data(), scale_T.size(), 1});
  for (float& scale : scale_T) scale = sigmoid(scale);
  return scale_T;
}

// Each token's results, weighted and summed in the order of its routing; then those of the shared experts, which come after
// all others in y_ND.
Matrix<float> combine(const Compute& compute, const Routing& routing, const DispatchPlan& plan,
                      std::span<const float> shared_scale_T, MatrixView<const float> y_ND) {
  Matrix<float> out_TD(static_cast<size_t>(routing.num_tokens()), y_ND.cols());
  compute.threads.parallel_for(out_TD.rows(), [&](size_t t) {
    const auto out = out_TD.row(t);
    for (int visit = routing.begin_T1[t]; visit < routing.begin_T1[t + 1]; ++visit) {
      const auto y = y_ND.row(static_cast<size_t>(plan.row_of_visit_N[visit]));
      compute.kernels.add_scaled(routing.weights_N[visit], y.data(), out.data(), out.size());
    }
    if (shared_scale_T.empty()) return;
    const auto y = y_ND.row(static_cast<size_t>(plan.num_rows()) + t);
    compute.kernels.add_scaled(shared_scale_T[t], y.data(), out.data(), out.size());
  });
  return out_TD;
}

// As `router` wants it, which may be nullptr.
Routing route_otherwise(spec::RouterRule rule, size_t most_experts, const RouterOverride* router, int layer, MatrixView<float> logits_TC,
                        std::span<const float> selection_bias_C, const moe::Preference& prefer) {
  if (router != nullptr) {
    const size_t experts = static_cast<size_t>(rule.num_experts);
    if (router->experts_per_token > 0) rule.experts_per_token = std::min(router->experts_per_token, rule.num_choices());
    if (!router->bias_LE.empty()) {
      const auto bias_E = std::span(router->bias_LE).subspan(static_cast<size_t>(layer) * most_experts, experts);
      for (size_t t = 0; t < logits_TC.rows(); ++t) add(bias_E, logits_TC.row(t));
    }
  }
  return moe::route(rule, logits_TC.flat(), selection_bias_C, prefer);
}

// Asks for the copies of low precision of those that are not in memory and not important.
void take_low(const store::ExpertStore& store, int layer, const std::vector<bool>& unimportant_E,
              std::vector<store::Demand>& demands) {
  for (store::Demand& demand : demands) {
    if (!unimportant_E[static_cast<size_t>(demand.expert)] || store.has({layer, demand.expert})) continue;
    demand.expert += static_cast<int>(unimportant_E.size());
  }
}

// What an iteration has of the numbers of all, one after the other.
std::span<const float> of_iteration(const spec::MoeSpec& spec, const std::vector<float>& all, int iteration) {
  const size_t choices = all.size() / static_cast<size_t>(spec.iterations);
  return std::span(all).subspan(static_cast<size_t>(iteration) * choices, choices);
}

}  // namespace

Matrix<float> linear_logits(const Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights, int iteration,
                            MatrixView<const float> x_TD) {
  kernel::WeightView router_CD = weights.router_ED;
  router_CD.rows /= static_cast<size_t>(spec.iterations);
  router_CD.data = weights.router_ED.row(static_cast<size_t>(iteration) * router_CD.rows);
  auto logits_TC = Matrix<float>::uninitialised(x_TD.rows(), router_CD.rows);
  kernel::exact_linear(compute, x_TD, router_CD, logits_TC.view());
  const std::span<const float> bias_C = of_iteration(spec, weights.router_bias_E, iteration);
  for (size_t t = 0; t < x_TD.rows(); ++t) add(bias_C, logits_TC.row(t));
  return logits_TC;
}

Routing route(const spec::MoeSpec& spec, const MoeWeights& weights, int layer, int iteration, MatrixView<float> logits_TC,
              std::span<const StepPart> parts, const moe::Preference& prefer) {
  spec::RouterRule rule = spec.router;
  rule.num_experts = static_cast<int>(weights.experts_E.size());  // of this layer
  const std::span<const float> selection_bias_C = of_iteration(spec, weights.selection_bias_E, iteration);
  if (std::ranges::all_of(parts, [](const StepPart& part) { return part.router == nullptr; })) {
    return moe::route(rule, logits_TC.flat(), selection_bias_C, prefer);
  }
  Routing whole{.num_experts = rule.num_experts};
  const size_t most_experts = static_cast<size_t>(spec.router.num_experts);
  for (const StepPart& part : parts) {
    const MatrixView<float> rows = logits_TC.middle_rows(part.first_token, part.tokens);
    moe::append(route_otherwise(rule, most_experts, part.router, layer, rows, selection_bias_C, prefer), whole);
  }
  return whole;
}

std::vector<store::Demand> demands_of(const Routing& routing) {
  std::vector<store::Demand> all_E(static_cast<size_t>(routing.num_experts));
  for (size_t e = 0; e < all_E.size(); ++e) all_E[e] = {static_cast<int>(e), 0, 0};
  for (size_t n = 0; n < routing.experts_N.size(); ++n) {
    store::Demand& demand = all_E[static_cast<size_t>(routing.experts_N[n])];
    ++demand.tokens;
    demand.weight += routing.weights_N[n];
  }
  std::erase_if(all_E, [](const store::Demand& demand) { return demand.tokens == 0; });
  return all_E;
}

namespace {

// One layer's call: what all of its iterations share.
struct Layer {
  const Compute& compute;
  const spec::MoeSpec& spec;
  const MoeWeights& weights;
  store::ExpertStore& store;
  int number;
  const ExpertStates& states;
  const Lossy& lossy;
};

Routing route_iteration(const Layer& layer, int iteration, MatrixView<float> logits_TC) {
  const size_t num_experts = layer.weights.experts_E.size(), choices = logits_TC.cols();
  moe::Preference prefer;
  if (layer.lossy.prefer_resident > 0) {
    prefer = [&layer, num_experts, choices](std::span<float> scores_TC) {
      prefer_resident(layer.store, layer.number, layer.lossy.prefer_resident, num_experts, choices, scores_TC);
    };
  }
  Routing routing = route(layer.spec, layer.weights, layer.number, iteration, logits_TC, layer.states.parts(), prefer);
  if (layer.lossy.skip_missing > 0) skip_missing(layer.store, layer.number, layer.lossy.skip_missing, routing);
  return routing;
}

// The experts' results for x_TC, weighted and summed; those of the shared experts among them if `with_shared`.
Matrix<float> run_routed(const Layer& layer, const Routing& routing, MatrixView<const float> x_TC, bool with_shared,
                         const std::function<void()>& while_reading) {
  const auto& [compute, spec, weights, store, number, states, lossy] = layer;
  const size_t tokens = x_TC.rows(), num_experts = weights.experts_E.size();
  std::vector<store::Demand> demands = demands_of(routing);
  if (lossy.low_precision > 0 && !weights.low_E.empty()) take_low(store, number, unimportant(routing, lossy.low_precision), demands);

  // Dispatch: the rows of each expert, then one a token for the shared experts
  const DispatchPlan plan = moe::plan_dispatch(routing);
  std::vector<int> token_of_row_N = plan.token_of_row_N;
  std::vector<ExpertRows> blocks;  // that are there and not computed yet
  std::vector<float> shared_scale_T;
  if (with_shared) {
    shared_scale_T = shared_scales(compute, weights, x_TC);
    blocks.push_back({&weights.shared, token_of_row_N.size(), tokens});
    token_of_row_N.resize(token_of_row_N.size() + tokens);
    std::iota(token_of_row_N.end() - static_cast<std::ptrdiff_t>(tokens), token_of_row_N.end(), 0);
  }

  // Experts, as the store has them; combine
  kernel::Activations x(x_TC);
  auto y_NC = Matrix<float>::uninitialised(token_of_row_N.size(), x_TC.cols());
  bool is_first = true;
  const auto run = [&](std::span<const int> experts) {
    if (std::exchange(is_first, false) && while_reading) while_reading();
    for (const int expert_number : experts) {
      const size_t e = static_cast<size_t>(expert_number) % num_experts;
      const bool is_low = static_cast<size_t>(expert_number) >= num_experts;
      blocks.push_back({is_low ? &layer.weights.low_E[e] : &layer.weights.experts_E[e], static_cast<size_t>(plan.begin_E1[e]),
                        static_cast<size_t>(plan.rows_of(static_cast<int>(e)))});
    }
    run_experts({layer.compute, layer.spec.activation, token_of_row_N, x, &layer.states}, blocks, y_NC.view());
    blocks.clear();
  };
  store.visit(number, demands, tokens, run);
  return combine(compute, routing, plan, shared_scale_T, y_NC.view());
}

// The same through the experts' width, if it is one of their own.
Matrix<float> run_iteration(const Layer& layer, const Routing& routing, MatrixView<const float> x_TD, bool with_shared,
                            const std::function<void()>& while_reading) {
  const auto& [compute, spec, weights, store, number, states, lossy] = layer;
  if (spec.expert_width == 0) return run_routed(layer, routing, x_TD, with_shared, while_reading);
  auto x_TC = Matrix<float>::uninitialised(x_TD.rows(), weights.descend.rows), out_TD = Matrix<float>::uninitialised(x_TD.rows(), x_TD.cols());
  kernel::linear(compute, x_TD, weights.descend, x_TC.view());
  const Matrix<float> y_TC = run_routed(layer, routing, std::as_const(x_TC).view(), false, while_reading);
  kernel::linear(compute, y_TC.view(), weights.ascend, out_TD.view());
  return out_TD;
}

// Adds what the shared experts make of x_TD, by themselves; or mixes it with what is there.
void add_shared(const Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights, MatrixView<const float> x_TD,
                MatrixView<float> out_TD) {
  const Matrix<float> y_TD = feed_forward(compute, weights.shared, x_TD);
  if (!spec.shared_mix) {
    const std::vector<float> scale_T = shared_scales(compute, weights, x_TD);
    for (size_t t = 0; t < x_TD.rows(); ++t) compute.kernels.add_scaled(scale_T[t], y_TD.row(t).data(), out_TD.row(t).data(), x_TD.cols());
    return;
  }
  Matrix<float> logits_T2(x_TD.rows(), 2);
  kernel::exact_linear(compute, x_TD, weights.shared_scale, logits_T2.view());
  for (size_t t = 0; t < x_TD.rows(); ++t) {
    const auto logits = logits_T2.row(t), out = out_TD.row(t);
    const float routed = sigmoid(logits[0] - logits[1]);  // a softmax of two
    for (float& value : out) value *= routed;
    compute.kernels.add_scaled(1 - routed, y_TD.row(t).data(), out.data(), out.size());
  }
}

void add_to(MatrixView<const float> y_TD, MatrixView<float> x_TD) {
  for (size_t t = 0; t < x_TD.rows(); ++t) add(y_TD.row(t), x_TD.row(t));
}

Matrix<float> copy_of(MatrixView<const float> x_TD) {
  auto copy = Matrix<float>::uninitialised(x_TD.rows(), x_TD.cols());
  for (size_t t = 0; t < x_TD.rows(); ++t) std::ranges::copy(x_TD.row(t), copy.row(t).begin());
  return copy;
}

}  // namespace

MoeOutput moe_layer(const Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights, store::ExpertStore& store,
                    int number, MatrixView<const float> x_TD, Matrix<float> logits_TC, const ExpertStates& states,
                    const Lossy& lossy, const std::function<void()>& while_reading) {
  const Layer layer{compute, spec, weights, store, number, states, lossy};
  const bool has_shared = !weights.shared.empty(), is_chain = spec.iterations > 1;
  // Shared experts run with the others where these take what they take.
  const bool shared_by_itself = has_shared && (is_chain || spec.expert_width > 0 || spec.shared_mix);

  states.carry();
  MoeOutput out{{}, route_iteration(layer, 0, logits_TC.view())};
  out.out_TD = run_iteration(layer, out.routing, x_TD, has_shared && !shared_by_itself, is_chain ? nullptr : while_reading);
  for (size_t t = 0; t < x_TD.rows(); ++t) add(weights.output_bias_D, out.out_TD.row(t));
  add_zero_cost(compute, spec.router, weights, out.routing.zero_cost, x_TD, out.out_TD.view());

  // Each further iteration on what those before have made of the token
  Matrix<float> h_TD = is_chain ? copy_of(x_TD) : Matrix<float>(), y_TD;
  if (is_chain) add_to(std::as_const(out.out_TD).view(), h_TD.view());
  for (int iteration = 1; iteration < spec.iterations; ++iteration) {
    const bool is_last = iteration == spec.iterations - 1;
    logits_TC = linear_logits(compute, spec, weights, iteration, std::as_const(h_TD).view());
    const Routing routing = route_iteration(layer, iteration, logits_TC.view());
    y_TD = run_iteration(layer, routing, std::as_const(h_TD).view(), false, is_last ? while_reading : nullptr);
    add_to(std::as_const(y_TD).view(), out.out_TD.view());
    add_to(std::as_const(y_TD).view(), h_TD.view());
    const Routing* both[] = {&out.routing, &routing};
    out.routing = moe::join_visits(both);
  }
  if (shared_by_itself) add_shared(compute, spec, weights, x_TD, out.out_TD.view());
  return out;
}

}  // namespace moiety::model
