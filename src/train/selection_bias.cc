#include "train/selection_bias.h"

#include <algorithm>

#include "moe/expert_choice.h"
#include "train/loops.h"

namespace moiety::train {

void add_cut_offs(const Routes& routes, float share, CutOffs& cut_offs) {
  for (size_t router = 0; router < routes.size(); ++router) {
    if (routes[router] == nullptr) continue;
    const std::vector<float>& cut_off_E = routes[router]->cut_off_E;
    if (!cut_off_E.empty()) add_scaled(share, cut_off_E, std::span(cut_offs[router]).first(cut_off_E.size()));
  }
}

void update_bias(const TrainConfig::Balance& config, const spec::ModelSpec& spec, int64_t step, const StepRouting& routing, Weights& weights) {
  const std::vector<RouterPlace> routers = routers_of(spec);
  for (size_t router = 0; router < routers.size(); ++router) {
    const auto [layer, iteration] = routers[router];
    if (!weights.is_here(spec::Role::SelectionBias, layer)) continue;
    const spec::RouterRule rule = spec.router(layer);
    const size_t experts = static_cast<size_t>(rule.num_experts);
    const size_t first = static_cast<size_t>(iteration) * static_cast<size_t>(rule.num_choices());
    const auto bias_E = weights.vector(spec::Role::SelectionBias, layer).value.subspan(first, experts);
    if (rule.select == spec::Select::ExpertChoice) {
      // A plain mean at first, so that it doesn't matter where it begins
      const double rate = std::max(config.cut_off_rate, 1.0 / static_cast<double>(step + 1));
      moe::follow_cut_offs(bias_E, std::span(routing.cut_offs[router]).first(experts), static_cast<float>(rate));
    } else {
      moe::update_selection_bias(bias_E, routing.figures.load().of_layer(static_cast<int>(router)).first(experts), static_cast<float>(config.bias_rate));
    }
  }
}

}  // namespace moiety::train
