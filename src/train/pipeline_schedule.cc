#include "train/pipeline_schedule.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <tuple>

namespace moiety::train {
namespace {

constexpr double kForward = 1, kBackward = 2;

// Micro-batches go through a stage's chunks in groups of as many as there are stages, so that a chunk's first comes when the chunk before has
// done the group's last; backward from the last chunk on.
std::vector<PipelineStep> steps_of_a_kind(const PipelineShape& p, bool is_backward) {
  std::vector<PipelineStep> steps;
  for (int first = 0; first < p.micro_batches; first += p.stages) {
    for (int i = 0; i < p.chunks; ++i) {
      for (int m = first; m < std::min(p.micro_batches, first + p.stages); ++m) steps.push_back({is_backward, is_backward ? p.chunks - 1 - i : i, m});
    }
  }
  return steps;
}

// When each step of each stage ends, if all take the steps as they stand and wait for what they need.
class Clock {
 public:
  explicit Clock(const PipelineShape& p) : p_(p), next_(static_cast<size_t>(p.stages), 0), free_at_(next_.size(), 0) {
    for (int stage = 0; stage < p.stages; ++stage) order_.push_back(pipeline_order(p, stage));
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t stage = 0; stage < order_.size(); ++stage) {
        while (next_[stage] < order_[stage].size() && advance(stage)) moved = true;
      }
    }
  }
  double end() const { return *std::ranges::max_element(free_at_); }

 private:
  bool advance(size_t stage) {
    const PipelineStep& step = order_[stage][next_[stage]];
    const int part = step.chunk * p_.stages + static_cast<int>(stage), needs = step.is_backward ? part + 1 : part - 1;
    double ready = 0;
    if (needs >= 0 && needs < p_.parts()) {
      const auto found = ended_.find({step.is_backward, needs, step.micro_batch});
      if (found == ended_.end()) return false;
      ready = found->second;
    }
    free_at_[stage] = std::max(free_at_[stage], ready) + (step.is_backward ? kBackward : kForward);
    ended_[{step.is_backward, part, step.micro_batch}] = free_at_[stage];
    ++next_[stage];
    return true;
  }

  PipelineShape p_;
  std::vector<std::vector<PipelineStep>> order_;
  std::vector<size_t> next_;
  std::vector<double> free_at_;
  std::map<std::tuple<bool, int, int>, double> ended_;
};

}  // namespace

int most_in_flight(const PipelineShape& p, int stage) {
  return p.chunks == 1 ? p.stages - stage : 2 * (p.stages - stage - 1) + (p.chunks - 1) * p.stages + 1;
}

// Forward steps until the stage's first backward step can come; then one of each in turn; then the backward steps that are left.
std::vector<PipelineStep> pipeline_order(const PipelineShape& p, int stage) {
  const std::vector<PipelineStep> forward = steps_of_a_kind(p, false), backward = steps_of_a_kind(p, true);
  const size_t ahead = std::min(forward.size(), static_cast<size_t>(most_in_flight(p, stage)) - 1);
  std::vector<PipelineStep> steps(forward.begin(), forward.begin() + static_cast<ptrdiff_t>(ahead));
  for (size_t i = 0; i < backward.size(); ++i) {
    if (ahead + i < forward.size()) steps.push_back(forward[ahead + i]);
    steps.push_back(backward[i]);
  }
  return steps;
}

PipelineTimes pipeline_times(const PipelineShape& pipeline) {
  return {Clock(pipeline).end(), (kForward + kBackward) * pipeline.chunks * pipeline.micro_batches};
}

}  // namespace moiety::train
