#include "server/live_events.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>

namespace moiety::server {

Json model_event(const spec::ModelSpec& spec, size_t context) {
  Json layers = Json::array();
  for (size_t layer = 0; layer < spec.feed_forward.size(); ++layer) {
    if (spec.feed_forward[layer] == spec::FeedForward::Moe) layers.push_back(layer);
  }
  const bool has_experts = !layers.empty();
  return {{"layers", std::move(layers)},
          {"experts", has_experts ? spec.moe.router.num_experts : 0},
          {"experts_per_token", has_experts ? spec.moe.router.experts_per_token : 0},
          {"context", context}};
}

Json figures_event(const engine::EngineStatistics& before, const engine::EngineStatistics& now, double seconds, const Memory& memory) {
  const auto rate = [&](uint64_t from, uint64_t to) { return seconds > 0 && to > from ? static_cast<double>(to - from) / seconds : 0.0; };
  return {{"tokens_per_second", now.new_tokens_per_second},
          {"prompt_tokens_per_second", now.prompt_tokens_per_second},
          {"running", now.running},
          {"waiting", now.waiting},
          {"cache_tokens", now.cache_tokens},
          {"cache_tokens_used", now.cache_tokens_used},
          {"cache_tokens_shared", now.cache_tokens_shared},
          {"memory", memory.resident},
          {"memory_budget", memory.budget},
          {"expert_slots", now.expert_slots},
          {"hits", rate(before.expert_hits, now.expert_hits)},
          {"misses", rate(before.expert_misses, now.expert_misses)},
          {"bytes_read", rate(before.expert_bytes_read, now.expert_bytes_read)}};
}

std::string heat_map(const std::vector<std::vector<float>>& visits_LE) {
  float most = 0;
  size_t cells = 0;
  for (const std::vector<float>& visits_E : visits_LE) {
    for (const float visits : visits_E) most = std::max(most, visits);
    cells += visits_E.size();
  }
  std::vector<unsigned char> heat;
  heat.reserve(cells);
  for (const std::vector<float>& visits_E : visits_LE) {
    for (const float visits : visits_E) {
      heat.push_back(most > 0 ? static_cast<unsigned char>(std::lround(255 * std::sqrt(std::max(visits, 0.0f) / most))) : 0);
    }
  }

  std::string text((heat.size() + 2) / 3 * 4, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), heat.data(), static_cast<int>(heat.size()));
  return text;
}

}  // namespace moiety::server
