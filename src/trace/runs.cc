#include "trace/runs.h"

namespace moiety::trace {

TokenRun& RunCollector::run_of(const Part& part, size_t layers) {
  const auto [found, is_new] = newest_.try_emplace(part.sequence, runs_.size());
  if (!is_new) {
    TokenRun& run = runs_[found->second];
    if (run.first_position + run.tokens() == part.first_position && run.domain == part.domain) return run;
    found->second = runs_.size();
  }
  return runs_.emplace_back(TokenRun{part.sequence, part.first_position, part.domain, std::vector<LayerRun>(layers)});
}

void RunCollector::add(const StepTrace& step) {
  size_t row = 0;
  for (const Part& part : step.parts) {
    const size_t end = row + static_cast<size_t>(part.tokens);
    if (row == end) continue;
    TokenRun& run = run_of(part, step.by_sparse_layer.size());
    for (size_t layer = 0; layer < step.by_sparse_layer.size(); ++layer) {
      const moe::Routing& routing = step.by_sparse_layer[layer];
      LayerRun& visits = run.by_sparse_layer[layer];
      for (size_t t = row; t < end; ++t) {
        for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
          visits.experts_N.push_back(static_cast<uint16_t>(routing.experts_N[n]));
        }
        visits.begin_T1.push_back(static_cast<uint32_t>(visits.experts_N.size()));
      }
    }
    row = end;
  }
}

}  // namespace moiety::trace
