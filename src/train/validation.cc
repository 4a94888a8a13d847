#include "train/validation.h"

#include <array>
#include <cmath>
#include <tuple>

#include "base/error.h"
#include "base/progress.h"
#include "train/sampler.h"

namespace moiety::train {
namespace {

DomainScore score(const ForwardPass& forward, const spec::ModelSpec& spec, const PreparedDomain& domain, const PassOrder& order, size_t sequence, size_t sequences,
                  size_t windows, const Share& share) {
  const torch::NoGradGuard no_graph;
  const DomainStream stream(domain.name, *domain.valid, sequence, std::nullopt);
  const size_t all = stream.windows_per_epoch(), count = windows == 0 ? all : std::min(windows, all);
  DomainScore result{.name = domain.name,
                     .routing = RoutingFigures(experts_by_router(spec))};
  double nats = 0, tokens = 0;
  // All ranks make as many passes, some with nothing in them: experts may be shared.
  for (size_t pass = 0; pass * share.ranks * sequences < count; ++pass) {
    const size_t first = (pass * share.ranks + share.rank) * sequences;
    Batch batch;
    for (size_t i = first; i < std::min(first + sequences, count); ++i) stream.add_window(i * all / count, batch);
    require(!batch.damage, "{}: it is damaged at byte {}", domain.valid->path().string(), domain.valid->byte_of(batch.damage->at));
    const auto counted = static_cast<double>(batch.num_targets());
    Routes routes;
    nats += static_cast<double>(forward(batch, &routes, order).cross_entropy) * counted;
    if (share.has_loss) tokens += counted;
    result.routing.add(routes, true);
  }
  if (share.sum_over_ranks) {
    std::array sums{nats, tokens};
    share.sum_over_ranks(sums);
    std::tie(nats, tokens) = std::pair(sums[0], sums[1]);
    result.routing.sum(share.sum_over_ranks);
  }
  result.tokens = static_cast<uint64_t>(tokens);
  // Every token counts, the end of a document too; bytes are those of the text.
  result.nats_per_token = nats / static_cast<double>(std::max<uint64_t>(1, result.tokens));
  const double bytes_per_token =
      static_cast<double>(domain.valid->info().text_bytes) / static_cast<double>(domain.valid->num_tokens());
  result.bits_per_byte = result.nats_per_token / std::log(2.0) / bytes_per_token;
  return result;
}

// By layer, of all domains' held-out text together, and how far domains differ.
Json routing_of_all(const std::vector<DomainScore>& scores) {
  if (scores.empty()) return Json::array();
  RoutingFigures all = scores[0].routing;
  std::vector<const RoutingFigures*> domains = {&scores[0].routing};
  for (size_t i = 1; i < scores.size(); ++i) {
    all.add(scores[i].routing);
    domains.push_back(&scores[i].routing);
  }
  Json list = all.by_layer();
  const std::vector<double> specialisation = specialisation_by_layer(domains);
  for (size_t layer = 0; layer < list.size(); ++layer) {
    list[layer].erase("dropped");  // held-out text never is
    list[layer]["specialisation"] = specialisation[layer];
  }
  return list;
}

}  // namespace

std::vector<DomainScore> validate(const ForwardPass& forward, const spec::ModelSpec& spec, const PreparedData& data, const PassOrder& order, size_t sequence,
                                  size_t sequences, size_t windows, const Share& share) {
  std::vector<DomainScore> scores;
  for (const PreparedDomain& domain : data.domains) {
    scores.push_back(score(forward, spec, domain, order, sequence, sequences, windows, share));
  }
  return scores;
}

Json report_of(const std::vector<DomainScore>& scores) {
  Json domains = Json::array();
  for (const DomainScore& score : scores) {
    domains.push_back({{"name", score.name},
                       {"nats_per_token", score.nats_per_token},
                       {"bits_per_byte", score.bits_per_byte},
                       {"tokens", score.tokens},
                       {"visits", score.routing.visits()}});
  }
  return {{"validation", domains}, {"routing", routing_of_all(scores)}};
}

std::string describe(const std::vector<DomainScore>& scores) {
  std::string line = "bits per byte:";
  for (const DomainScore& score : scores) line += fmt::format("  {} {:.3f}", score.name, score.bits_per_byte);
  return line;
}

}  // namespace moiety::train
