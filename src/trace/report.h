// All that is read off a trace, put together; docs/traces.md says what each number means.
#pragma once

#include <optional>

#include "base/thread_pool.h"
#include "trace/local_consistency.h"
#include "trace/statistics.h"

namespace moiety::trace {

struct ReportOptions {
  std::vector<int> segments = {4, 16, 64, 256};               // tokens
  std::vector<double> cache_sizes = {0.5, 1, 1.5, 2, 3, 4};  // of the experts per token
  size_t pairs = 5;                                           // the strongest between two layers
};

// Where there are more experts than this the pairs of two layers aren't counted.
inline constexpr int kMostPairedExperts = 2048;

struct LayerReport {
  int number = 0;  // in the model
  std::vector<int64_t> visits_E;
  moe::Balance balance;
  int half_set = 0, most_set = 0;  // experts that have 50 % and 80 % of the visits
  ReuseDistances reuse;
  Repetition repetition;
  std::vector<std::vector<int64_t>> segment_counts;  // by segment
  std::vector<SegmentRouting> routing;               // by segment
  std::vector<CacheHits> caches;                     // by segment
  std::optional<CoActivation> to_next;               // none for the last layer
};

struct DomainPair {
  std::string one, other;
  double bits = 0;  // Jensen-Shannon divergence of their loads, the mean of layers
};

struct Report {
  TraceHeader header;
  size_t sequences = 0, tokens = 0;
  std::map<std::string, size_t> tokens_by_domain;
  std::map<std::string, moe::Load> loads_by_domain;
  std::vector<LayerReport> layers;
  std::vector<DomainPair> domain_pairs;
  std::vector<int> segments;
  std::vector<SegmentRouting> routing;  // by segment, of all layers together
  std::vector<double> cache_sizes;
  std::vector<int> slots;  // of these caches: at least one, at most all experts; a size that rounds to the same is kept

  // By segment and cache size, the mean of layers.
  double cache_rate(size_t segment, size_t size) const;
};

// Layers are shared by the threads. The same numbers however many there are.
Report make_report(const TraceHeader& header, std::span<const TokenRun> runs, const ReportOptions& options, ThreadPool& threads);

}  // namespace moiety::trace
