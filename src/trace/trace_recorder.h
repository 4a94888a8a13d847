// Makes steps of a trace of a model's forward passes. It knows no model: whoever runs one says begin, hands over the routing of
// each sparse layer as it is decided, and says end.
#pragma once

#include <functional>

#include "trace/trace_file.h"

namespace moiety::trace {

class TraceRecorder {
 public:
  explicit TraceRecorder(TraceWriter& writer) : writer_(writer) {}

  // What kind of text the parts that follow are.
  void set_domain(std::string domain) { domain_ = std::move(domain); }
  // A number that no other sequence of the trace has.
  uint64_t new_sequence();

  // A pass over the parts' tokens begins; what was begun before and not ended is forgotten. Parts without a domain get the one
  // that was set. The pass's first `skipped` tokens are of no part and not recorded.
  void begin(std::vector<Part> parts, int skipped = 0);
  // The number of a layer and the routing of all of the pass's tokens; ascending, all of the header's sparse layers.
  void add(int layer, const moe::Routing& routing);
  // Writes the step. Throws Error(Io).
  void end();

  // add() as a function, for what calls one with every layer's routing.
  std::function<void(int layer, const moe::Routing&)> observer() {
    return [this](int layer, const moe::Routing& routing) { add(layer, routing); };
  }

  const TraceWriter& writer() const { return writer_; }
  uint64_t steps() const { return steps_; }    // written
  uint64_t tokens() const { return tokens_; }  // of them

 private:
  TraceWriter& writer_;
  std::string domain_;
  StepTrace step_;
  int skipped_ = 0;
  size_t layers_done_ = 0;
  uint64_t next_sequence_ = 0, steps_ = 0, tokens_ = 0;
};

}  // namespace moiety::trace
