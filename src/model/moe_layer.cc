#include "model/moe_layer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "model/elementwise.h"
#include "model/experts.h"
#include "model/gating_residual.h"
#include "model/zero_cost.h"
#include "moe/dispatch_plan.h"

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
Routing route_otherwise(spec::RouterRule rule, const RouterOverride* router, int layer, MatrixView<float> logits_TC,
                        std::span<const float> selection_bias_C, const moe::Preference& prefer) {
  if (router != nullptr) {
    const size_t experts = static_cast<size_t>(rule.num_experts);
    if (router->experts_per_token > 0) rule.experts_per_token = router->experts_per_token;
    if (!router->bias_LE.empty()) {
      const auto bias_E = std::span(router->bias_LE).subspan(static_cast<size_t>(layer) * experts, experts);
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

}  // namespace

Routing route(const spec::MoeSpec& spec, const MoeWeights& weights, int layer, MatrixView<float> logits_TC,
              std::span<const StepPart> parts, const moe::Preference& prefer) {
  if (std::ranges::all_of(parts, [](const StepPart& part) { return part.router == nullptr; })) {
    return moe::route(spec.router, logits_TC.flat(), weights.selection_bias_E, prefer);
  }
  Routing whole{.num_experts = spec.router.num_experts};
  for (const StepPart& part : parts) {
    const MatrixView<float> rows = logits_TC.middle_rows(part.first_token, part.tokens);
    moe::append(route_otherwise(spec.router, part.router, layer, rows, weights.selection_bias_E, prefer), whole);
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

MoeOutput moe_layer(const Compute& compute, const spec::MoeSpec& spec, const MoeWeights& weights, store::ExpertStore& store,
                    int layer, MatrixView<const float> x_TD, Matrix<float> logits_TC, std::span<const StepPart> parts,
                    const Lossy& lossy, const std::function<void()>& while_reading) {
  const size_t tokens = x_TD.rows(), num_experts = static_cast<size_t>(spec.router.num_experts);
  moe::Preference prefer;
  if (lossy.prefer_resident > 0) {
    prefer = [&](std::span<float> scores_TC) {
      prefer_resident(store, layer, lossy.prefer_resident, num_experts, static_cast<size_t>(spec.router.num_choices()), scores_TC);
    };
  }
  Routing routing = route(spec, weights, layer, logits_TC.view(), parts, prefer);
  if (lossy.skip_missing > 0) skip_missing(store, layer, lossy.skip_missing, routing);
  std::vector<store::Demand> demands = demands_of(routing);
  if (lossy.low_precision > 0 && !weights.low_E.empty()) take_low(store, layer, unimportant(routing, lossy.low_precision), demands);

  // Dispatch: the rows of each expert, then one a token for the shared experts
  const DispatchPlan plan = moe::plan_dispatch(routing);
  std::vector<int> token_of_row_N = plan.token_of_row_N;
  std::vector<ExpertRows> blocks;  // that are there and not computed yet
  std::vector<float> shared_scale_T;
  if (!weights.shared.gate.empty()) {
    shared_scale_T = shared_scales(compute, weights, x_TD);
    blocks.push_back({&weights.shared, token_of_row_N.size(), tokens});
    token_of_row_N.resize(token_of_row_N.size() + tokens);
    std::iota(token_of_row_N.end() - static_cast<std::ptrdiff_t>(tokens), token_of_row_N.end(), 0);
  }

  // Experts, as the store has them; combine
  kernel::Activations x(x_TD);
  auto y_ND = Matrix<float>::uninitialised(token_of_row_N.size(), x_TD.cols());
  bool is_first = true;
  const auto run = [&](std::span<const int> experts) {
    if (std::exchange(is_first, false) && while_reading) while_reading();
    for (const int number : experts) {
      const size_t e = static_cast<size_t>(number) % num_experts;
      const FeedForwardWeights& expert = static_cast<size_t>(number) < num_experts ? weights.experts_E[e] : weights.low_E[e];
      blocks.push_back({&expert, static_cast<size_t>(plan.begin_E1[e]), static_cast<size_t>(plan.rows_of(static_cast<int>(e)))});
    }
    run_experts(compute, spec.activation, blocks, token_of_row_N, x, y_ND.view());
    blocks.clear();
  };
  store.visit(layer, demands, tokens, run);
  MoeOutput out{combine(compute, routing, plan, shared_scale_T, y_ND.view()), std::move(routing)};
  add_zero_cost(compute, spec.router, weights, out.routing.zero_cost, x_TD, out.out_TD.view());
  return out;
}

}  // namespace moiety::model
