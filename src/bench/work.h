// What a run has to do, whoever does it: bytes that must come from memory and operations on them, counted from the sizes of
// the weights and from the routing that really happened.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "bench/limits.h"
#include "format/model_file.h"
#include "model/step.h"
#include "moe/route.h"
#include "spec/expert_kind.h"

namespace moiety::bench {

struct Work {
  double steps = 0;
  double weight_bytes = 0;   // each matrix once a step, of experts those that some token visits
  double cache_bytes = 0;    // keys and values that queries look at
  std::array<double, kUnits> operations{};  // by Unit
  double disk_bytes = 0;     // of experts that were not in memory
  double experts = 0;        // that were visited, over steps and sparse layers
  double sparse_layers = 0;  // over steps

  double bytes() const { return weight_bytes + cache_bytes; }
};

class WorkCounter {
 public:
  WorkCounter(const format::ModelFile& file, const kernel::Compute& compute);

  // A step of these chunks, of whose last tokens the logits are wanted; to be told before the step is run.
  void add_step(std::span<const model::Chunk> chunks);
  // How a sparse layer of that step was routed.
  void add_routing(int layer, const moe::Routing& routing);

  const Work& work() const { return work_; }

 private:
  using Operations = std::array<double, kUnits>;
  // A set of matrices that are used together.
  struct Matrices {
    double bytes = 0;
    Operations operations{};  // a token
  };
  struct Layer {
    Matrices dense;   // all that every token meets
    std::array<Matrices, std::size(spec::kExpertKinds)> expert;  // one of each kind
    Matrices attention_expert;
  };
  void add(const Matrices& matrices, double tokens);
  bool decides(const spec::Weight& weight) const;
  void add_attention_experts(double tokens);

  const spec::ModelSpec& spec_;
  std::vector<Layer> layers_;
  Matrices head_;
  double embedding_row_bytes_ = 0;
  Work work_;
};

// Seconds that the work takes at least: as long as the memory needs, or the arithmetic, or the disk, whichever is longest.
struct Bound {
  double memory_seconds = 0, arithmetic_seconds = 0, disk_seconds = 0;
  Unit unit = Unit::F32;  // which most of the arithmetic's time goes to

  double seconds() const { return std::max({memory_seconds, arithmetic_seconds, disk_seconds}); }
  bool is_disk() const { return disk_seconds == seconds() && disk_seconds > 0; }
  bool is_memory() const { return !is_disk() && memory_seconds >= arithmetic_seconds; }
};
Bound bound_of(const Work& work, const Limits& limits);

}  // namespace moiety::bench
