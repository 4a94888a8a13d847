// Traces by chance: ragged, with and without weights, of several sequences at a time.
#pragma once

#include <algorithm>
#include <numeric>

#include "base/bytes.h"
#include "base/random.h"
#include "trace/routing_trace.h"

namespace moiety::test {

inline moe::Routing random_routing(Random& random, int experts, int tokens, int most_visits, bool ragged, bool weights) {
  moe::Routing routing{.num_experts = experts};
  std::vector<int32_t> all(static_cast<size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  for (int t = 0; t < tokens; ++t) {
    const auto visits = ragged ? random.below(static_cast<uint64_t>(most_visits) + 1) : static_cast<uint64_t>(most_visits);
    for (size_t k = 0; k < visits; ++k) {
      std::swap(all[k], all[k + random.below(all.size() - k)]);
      routing.experts_N.push_back(all[k]);
      // As a trace keeps it.
      if (weights) routing.weights_N.push_back(bf16_to_float(float_to_bf16(static_cast<float>(random.normal()))));
    }
    routing.begin_T1.push_back(routing.num_visits());
  }
  return routing;
}

inline trace::TraceHeader random_header(Random& random, int most_experts = 400) {
  trace::TraceHeader header{.model = "model " + std::to_string(random.below(1000)), .num_layers = 1 + static_cast<int>(random.below(5))};
  header.num_experts = 1 + static_cast<int>(random.below(static_cast<uint64_t>(most_experts)));
  header.experts_per_token = 1 + static_cast<int>(random.below(static_cast<uint64_t>(std::min(8, header.num_experts))));
  for (int layer = 0; layer < header.num_layers; ++layer) {
    if (random.below(3) > 0 || (layer + 1 == header.num_layers && header.sparse_layers.empty())) header.sparse_layers.push_back(layer);
  }
  return header;
}

// The sequences grow from step to step, from positions[s] on.
inline trace::StepTrace random_step(Random& random, const trace::TraceHeader& header, std::vector<uint64_t>& positions) {
  const char* domains[] = {"", "german", "code", "\xe4\xb8\xad\xe6\x96\x87"};
  trace::StepTrace step;
  int tokens = 0;
  for (size_t s = 0; s < positions.size(); ++s) {
    if (random.below(3) == 0) continue;
    const int count = random.below(2) == 0 ? 1 : static_cast<int>(random.below(6));
    step.parts.push_back({s, positions[s], count, domains[s % 4]});
    positions[s] += static_cast<uint64_t>(count);
    tokens += count;
  }
  const bool ragged = random.below(3) == 0, weights = random.below(3) > 0;
  for (size_t layer = 0; layer < header.sparse_layers.size(); ++layer) {
    step.by_sparse_layer.push_back(random_routing(random, header.num_experts, tokens, header.experts_per_token, ragged, weights));
  }
  return step;
}

inline std::vector<trace::StepTrace> random_steps(Random& random, const trace::TraceHeader& header, size_t count, size_t sequences) {
  std::vector<uint64_t> positions(sequences, 0);
  std::vector<trace::StepTrace> steps;
  for (size_t i = 0; i < count; ++i) steps.push_back(random_step(random, header, positions));
  return steps;
}

inline bool same(const moe::Routing& a, const moe::Routing& b) {
  return a.num_experts == b.num_experts && a.begin_T1 == b.begin_T1 && a.experts_N == b.experts_N && a.weights_N == b.weights_N;
}

inline bool same(const trace::StepTrace& a, const trace::StepTrace& b) {
  return a.parts == b.parts && std::equal(a.by_sparse_layer.begin(), a.by_sparse_layer.end(), b.by_sparse_layer.begin(), b.by_sparse_layer.end(),
                                          [](const moe::Routing& x, const moe::Routing& y) { return same(x, y); });
}

}  // namespace moiety::test
