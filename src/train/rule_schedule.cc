#include "train/rule_schedule.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moiety::train {

int experts_at(const ExpertsSchedule& schedule, int layer, int layers, int64_t step) {
  // This layer's part of the steps
  const auto wait = static_cast<int64_t>(schedule.lower_later * static_cast<double>(schedule.steps));
  const int64_t begin = schedule.begin + (layers > 1 ? wait * (layers - 1 - layer) / (layers - 1) : 0);
  const int64_t length = std::max<int64_t>(1, schedule.steps - wait);

  const int64_t distance = std::abs(schedule.to - schedule.from);
  const int64_t moved = std::clamp<int64_t>(step - begin, 0, length) * (distance + 1) / length;
  const auto way = static_cast<int>(std::min(distance, moved));
  return schedule.to > schedule.from ? schedule.from + way : schedule.from - way;
}

double temperature_at(const TemperatureSchedule& schedule, int64_t step) {
  const double length = static_cast<double>(std::max<int64_t>(1, schedule.steps));
  const double share = std::clamp(static_cast<double>(step - schedule.begin) / length, 0.0, 1.0);
  if (share == 1) return schedule.to;
  return schedule.from * std::pow(schedule.to / schedule.from, share);
}

std::vector<spec::RouterRule> rules_at(const TrainConfig::Anneal& anneal, const spec::ModelSpec& spec, int64_t step, int64_t steps) {
  require(anneal.experts_from == 0 || spec.moe.router.num_groups == 1, "anneal.experts_from: groups of experts have room for so many of them only");
  const int64_t begin = anneal.spawn_step;
  const auto lasting = [&](int64_t said) { return said > 0 ? said : steps - begin; };
  std::vector<spec::RouterRule> rules_L;
  int moe_layer = 0;
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    spec::RouterRule rule = spec.router(layer);
    if (anneal.experts_from > 0) {
      const ExpertsSchedule experts{.from = std::min(static_cast<int>(anneal.experts_from), rule.num_experts),
                                    .to = rule.experts_per_token,
                                    .begin = begin,
                                    .steps = lasting(anneal.experts_steps),
                                    .lower_later = anneal.lower_later};
      rule.experts_per_token = experts_at(experts, moe_layer, spec.moe_layers(), step);
    }
    if (anneal.temperature_from > 0) {
      rule.temperature = static_cast<float>(temperature_at(
          {.from = anneal.temperature_from, .to = rule.temperature, .begin = begin, .steps = lasting(anneal.temperature_steps)}, step));
    }
    if (spec.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Moe) ++moe_layer;
    rules_L.push_back(rule);
  }
  return rules_L;
}

}  // namespace moiety::train
