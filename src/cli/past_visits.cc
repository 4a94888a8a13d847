#include "cli/past_visits.h"

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "trace/trace_file.h"

namespace moiety::cli {
namespace {

// What tokens [begin, end) of a routing ask for.
store::PastVisit visit_of(int layer, const moe::Routing& routing, int begin, int end) {
  std::vector<store::Demand> all_E(static_cast<size_t>(routing.num_experts), store::Demand{0, 0, 0});
  for (int n = routing.begin_T1[begin]; n < routing.begin_T1[end]; ++n) {
    store::Demand& demand = all_E[static_cast<size_t>(routing.experts_N[n])];
    const float weight = routing.weights_N.empty() ? 0 : routing.weights_N[n];  // a trace may be of the choice alone
    demand = {routing.experts_N[n], demand.tokens + 1, demand.weight + weight};
  }
  std::erase_if(all_E, [](const store::Demand& demand) { return demand.tokens == 0; });
  return {layer, static_cast<size_t>(end - begin), std::move(all_E)};
}

}  // namespace

PastVisits read_past_visits(const std::string& path, bool token_by_token) {
  trace::TraceReader reader(path);
  PastVisits past{reader.header(), {}, {}, 0};
  past.experts_L.resize(static_cast<size_t>(past.header.num_layers));
  for (const int layer : past.header.sparse_layers) past.experts_L[static_cast<size_t>(layer)] = static_cast<size_t>(past.header.num_experts);
  Progress progress("reading the trace", static_cast<double>(reader.size()), "B");
  for (trace::StepTrace step; reader.next(step);) {
    const int tokens = step.num_tokens(), stride = token_by_token ? 1 : std::max(1, tokens);
    for (int at = 0; at < tokens; at += stride) {
      for (size_t l = 0; l < step.by_sparse_layer.size(); ++l) {
        past.visits.push_back(visit_of(past.header.sparse_layers[l], step.by_sparse_layer[l], at, at + stride));
      }
    }
    past.tokens += static_cast<size_t>(tokens);
    progress.update(static_cast<double>(reader.position()));
  }
  progress.finish();
  require(past.tokens > 0, "{}: no step in it", path);
  return past;
}

}  // namespace moiety::cli
