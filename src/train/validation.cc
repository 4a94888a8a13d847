#include "train/validation.h"

#include <array>
#include <cmath>
#include <tuple>

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

}  // namespace

std::vector<DomainScore> validate(const ForwardPass& forward, const spec::ModelSpec& spec, const PreparedData& data, const PassOrder& order, size_t sequence,
                                  size_t sequences, size_t windows, const Share& share) {
  std::vector<DomainScore> scores;
  for (const PreparedDomain& domain : data.domains) {
    scores.push_back(score(forward, spec, domain, order, sequence, sequences, windows, share));
  }
  return scores;
}

}  // namespace moiety::train
