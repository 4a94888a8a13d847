#include "cli/expert_report.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::cli {
namespace {

double percent(uint64_t part, uint64_t all) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<uint64_t>(all, 1));
}

}  // namespace

Json streaming_json(const OpenModel& model) {
  const store::ExpertCache& cache = *model.transformer.expert_cache();
  const model::Lossy& lossy = model.transformer.lossy();
  return {{"slots", cache.slots()},
          {"policy", store::name(cache.policy())},
          {"lossy", lossy.is_on()},
          {"prefer_resident", lossy.prefer_resident},
          {"skip_missing", lossy.skip_missing},
          {"low_precision", lossy.low_precision}};
}

std::string streaming_text(const OpenModel& model) {
  const model::Lossy& lossy = model.transformer.lossy();
  std::string text = fmt::format("policy {}", store::name(model.transformer.expert_cache()->policy()));
  if (lossy.is_on()) {
    text += fmt::format("; LOSSY: prefer-resident {}, skip-missing {}, low-precision {}", lossy.prefer_resident, lossy.skip_missing,
                        lossy.low_precision);
  }
  return text;
}

Json expert_statistics_json(const OpenModel& model) {
  const store::StoreStatistics* s = model.transformer.expert_statistics();
  if (s == nullptr) return {};
  Json json = streaming_json(model);
  json.update({{"hits", s->hits},
               {"misses", s->misses},
               {"bytes_read", s->bytes_read},
               {"seconds_waited", s->seconds_waited},
               {"expected", s->expected},
               {"expected_right", s->expected_right},
               {"expected_and_missing", s->expected_missing},
               {"read_ahead", s->read_ahead},
               {"bytes_wasted", s->bytes_wasted},
               {"upgrades", s->upgrades},
               {"bytes_spared", s->bytes_spared}});
  return json;
}

std::string expert_statistics_text(const OpenModel& model) {
  const store::StoreStatistics* s = model.transformer.expert_statistics();
  if (s == nullptr || s->hits + s->misses == 0) return {};
  std::string text = fmt::format("experts: {:.1f} % of visits found them in memory; {:.2f} GB were read, and {:.1f} s spent waiting for nothing else",
                                 percent(s->hits, s->hits + s->misses), static_cast<double>(s->bytes_read) / 1e9, s->seconds_waited);
  if (s->expected > 0) {
    text += fmt::format("; of those expected {:.0f} % came, of those that came {:.0f} % were expected, {} were read ahead, {:.2f} GB of it for nothing",
                        percent(s->expected_right, s->expected), percent(s->expected_right, s->expected_missing), s->read_ahead,
                        static_cast<double>(s->bytes_wasted) / 1e9);
  }
  if (s->upgrades > 0) {
    text += fmt::format("; {} were there in low precision and became whole by their lower planes alone, {:.2f} GB less to read", s->upgrades,
                        static_cast<double>(s->bytes_spared) / 1e9);
  }
  return text + "; " + streaming_text(model);
}

}  // namespace moiety::cli
