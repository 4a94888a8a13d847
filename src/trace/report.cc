#include "trace/report.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace moiety::trace {
namespace {

LayerReport report_layer(const TraceHeader& header, std::span<const TokenRun> runs, int layer, const moe::Load& load,
                         const ReportOptions& options, int most_slots) {
  const int experts = header.num_experts;
  const auto visits_E = load.of_layer(layer);
  LayerReport report{.number = header.sparse_layers[static_cast<size_t>(layer)], .visits_E = {visits_E.begin(), visits_E.end()}};
  report.balance = moe::balance_of(visits_E);
  report.half_set = hot_set(visits_E, 0.5);
  report.most_set = hot_set(visits_E, 0.8);
  report.reuse = reuse_distances(runs, layer, experts);
  report.repetition = repetition(runs, layer, experts);
  for (const int segment : options.segments) {
    report.segment_counts.push_back(segment_counts(runs, layer, experts, segment));
    report.routing.push_back(segment_routing(report.segment_counts.back()));
    report.caches.push_back(segment_cache(runs, layer, experts, segment, most_slots));
  }
  const bool has_next = layer + 1 < static_cast<int>(header.sparse_layers.size());
  if (has_next && experts <= kMostPairedExperts) report.to_next = co_activation(runs, layer, experts, options.pairs);
  return report;
}

std::vector<DomainPair> compare_domains(const std::map<std::string, moe::Load>& loads) {
  std::vector<DomainPair> pairs;
  for (auto one = loads.begin(); one != loads.end(); ++one) {
    for (auto other = std::next(one); other != loads.end(); ++other) {
      DomainPair pair{one->first, other->first};
      const int layers = one->second.layers();
      for (int layer = 0; layer < layers; ++layer) {
        pair.bits += jensen_shannon_bits(one->second.of_layer(layer), other->second.of_layer(layer)) / layers;
      }
      pairs.push_back(std::move(pair));
    }
  }
  return pairs;
}

}  // namespace

double Report::cache_rate(size_t segment, size_t size) const {
  double sum = 0;
  for (const LayerReport& layer : layers) sum += layer.caches[segment].rate(slots[size]);
  return layers.empty() ? 0 : sum / static_cast<double>(layers.size());
}

Report make_report(const TraceHeader& header, std::span<const TokenRun> runs, const ReportOptions& options, ThreadPool& threads) {
  Report report{.header = header, .segments = options.segments, .cache_sizes = options.cache_sizes};
  std::set<uint64_t> sequences;
  for (const TokenRun& run : runs) {
    sequences.insert(run.sequence);
    report.tokens += run.tokens();
    report.tokens_by_domain[run.domain] += run.tokens();
  }
  report.sequences = sequences.size();
  for (const double size : options.cache_sizes) {
    report.slots.push_back(static_cast<int>(std::clamp<long>(std::lround(size * header.experts_per_token), 1, header.num_experts)));
  }
  const int most_slots = report.slots.empty() ? 1 : *std::max_element(report.slots.begin(), report.slots.end());

  const moe::Load load = load_of(header, runs);
  report.layers.resize(header.sparse_layers.size());
  threads.parallel_for(report.layers.size(), [&](size_t layer) {
    report.layers[layer] = report_layer(header, runs, static_cast<int>(layer), load, options, most_slots);
  });

  report.loads_by_domain = loads_by_domain(header, runs);
  report.domain_pairs = compare_domains(report.loads_by_domain);
  for (size_t s = 0; s < options.segments.size(); ++s) {
    std::vector<int64_t> counts(static_cast<size_t>(options.segments[s]) + 1, 0);
    for (const LayerReport& layer : report.layers) {
      for (size_t c = 0; c < counts.size(); ++c) counts[c] += layer.segment_counts[s][c];
    }
    report.routing.push_back(segment_routing(counts));
  }
  return report;
}

}  // namespace moiety::trace
