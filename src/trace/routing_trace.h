// What a routing trace says: which experts the tokens of which sequences visited, step by step. Plain data: trace_file.h keeps
// it on disk, trace_recorder.h makes it of forward passes, runs.h turns it around by sequence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "moe/route.h"
#include "spec/model_spec.h"

namespace moiety::trace {

// Of which model a trace is.
struct TraceHeader {
  std::string model;               // its name
  int num_layers = 0;
  std::vector<int> sparse_layers;  // the numbers of those with experts, ascending
  int num_experts = 0;             // of each of these
  int experts_per_token = 0;       // as the model's rule has it; what a trace holds may be ragged

  bool operator==(const TraceHeader&) const = default;
};

// Some next tokens of one sequence.
struct Part {
  uint64_t sequence = 0;
  uint64_t first_position = 0;
  int tokens = 0;
  std::string domain;  // what kind of text it is; may be empty

  bool operator==(const Part&) const = default;
};

// One run through the layers. Row t of each routing is the t-th token of all parts, one part after the other.
struct StepTrace {
  std::vector<Part> parts;
  std::vector<moe::Routing> by_sparse_layer;  // as many as the header has sparse layers, in their order

  int num_tokens() const { return by_sparse_layer.empty() ? 0 : by_sparse_layer[0].num_tokens(); }
};

// The header of a model's traces.
inline TraceHeader header_of(const spec::ModelSpec& spec, std::string model) {
  TraceHeader header{.model = std::move(model),
                     .num_layers = spec.num_layers,
                     .num_experts = spec.moe.router.num_experts,
                     .experts_per_token = std::min(spec.moe.router.experts_per_token, spec.moe.router.num_experts)};
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.feed_forward[static_cast<size_t>(layer)] == spec::FeedForward::Moe) header.sparse_layers.push_back(layer);
  }
  return header;
}

}  // namespace moiety::trace
