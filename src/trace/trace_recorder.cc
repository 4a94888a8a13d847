#include "trace/trace_recorder.h"

#include <algorithm>
#include <cassert>

#include "moe/join.h"

namespace moiety::trace {

uint64_t TraceRecorder::new_sequence() {
  const uint64_t sequence = std::max(next_sequence_, writer_.next_sequence());
  next_sequence_ = sequence + 1;
  return sequence;
}

void TraceRecorder::begin(std::vector<Part> parts, int skipped) {
  step_.parts = std::move(parts);
  for (Part& part : step_.parts) {
    if (part.domain.empty()) part.domain = domain_;
  }
  step_.by_sparse_layer.resize(writer_.header().sparse_layers.size());
  skipped_ = skipped;
  layers_done_ = 0;
}

void TraceRecorder::add(int layer, const moe::Routing& routing) {
  assert(layers_done_ < step_.by_sparse_layer.size() && writer_.header().sparse_layers[layers_done_] == layer);
  assert(skipped_ <= routing.num_tokens());
  (void)layer;
  moe::Routing& kept = step_.by_sparse_layer[layers_done_++];
  kept = moe::without_repeats(routing);  // a chain's iterations may meet one expert again
  kept.num_experts = writer_.header().num_experts;  // this layer may have fewer
  if (skipped_ == 0) return;
  const int32_t before = kept.begin_T1[static_cast<size_t>(skipped_)];
  kept.begin_T1.erase(kept.begin_T1.begin(), kept.begin_T1.begin() + skipped_);
  for (int32_t& begin : kept.begin_T1) begin -= before;
  kept.experts_N.erase(kept.experts_N.begin(), kept.experts_N.begin() + before);
  if (!kept.weights_N.empty()) kept.weights_N.erase(kept.weights_N.begin(), kept.weights_N.begin() + before);
}

void TraceRecorder::end() {
  assert(layers_done_ == step_.by_sparse_layer.size());
  writer_.add(step_);
  ++steps_;
  tokens_ += static_cast<uint64_t>(step_.num_tokens());
}

}  // namespace moiety::trace
