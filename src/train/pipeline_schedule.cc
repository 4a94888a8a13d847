#include "train/pipeline_schedule.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <tuple>

namespace moiety::train {
namespace {

constexpr double kForward = 1, kBackward = 2;

// Micro-batches go through a rank's chunks in groups of as many as there are ranks, so that a chunk's first comes when the chunk before has
// done the group's last; backward from the last chunk on.
std::vector<PipelineStep> steps_of_a_kind(const Pipeline& p, bool is_backward) {
  std::vector<PipelineStep> steps;
  for (int first = 0; first < p.micro_batches; first += p.ranks) {
    for (int i = 0; i < p.chunks; ++i) {
      for (int m = first; m < std::min(p.micro_batches, first + p.ranks); ++m) steps.push_back({is_backward, is_backward ? p.chunks - 1 - i : i, m});
    }
  }
  return steps;
}

// Forward steps until the rank's first backward step can come; then one of each in turn; then the backward steps that are left.
std::vector<PipelineStep> order_of(const Pipeline& p, int rank) {
  const std::vector<PipelineStep> forward = steps_of_a_kind(p, false), backward = steps_of_a_kind(p, true);
  const size_t ahead = std::min(forward.size(), static_cast<size_t>(most_in_flight(p, rank)) - 1);
  std::vector<PipelineStep> steps(forward.begin(), forward.begin() + static_cast<ptrdiff_t>(ahead));
  for (size_t i = 0; i < backward.size(); ++i) {
    if (ahead + i < forward.size()) steps.push_back(forward[ahead + i]);
    steps.push_back(backward[i]);
  }
  return steps;
}

// When each step of each rank ends, if all take the steps as they stand and wait for what they need.
class Clock {
 public:
  explicit Clock(const Pipeline& p) : p_(p), order_(pipeline_order(p)), next_(order_.size(), 0), free_at_(order_.size(), 0) {
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t rank = 0; rank < order_.size(); ++rank) {
        while (next_[rank] < order_[rank].size() && advance(rank)) moved = true;
      }
    }
  }
  double end() const { return *std::ranges::max_element(free_at_); }

 private:
  bool advance(size_t rank) {
    const PipelineStep& step = order_[rank][next_[rank]];
    const int stage = step.chunk * p_.ranks + static_cast<int>(rank), needs = step.is_backward ? stage + 1 : stage - 1;
    double ready = 0;
    if (needs >= 0 && needs < p_.stages()) {
      const auto found = ended_.find({step.is_backward, needs, step.micro_batch});
      if (found == ended_.end()) return false;
      ready = found->second;
    }
    free_at_[rank] = std::max(free_at_[rank], ready) + (step.is_backward ? kBackward : kForward);
    ended_[{step.is_backward, stage, step.micro_batch}] = free_at_[rank];
    ++next_[rank];
    return true;
  }

  Pipeline p_;
  std::vector<std::vector<PipelineStep>> order_;
  std::vector<size_t> next_;
  std::vector<double> free_at_;
  std::map<std::tuple<bool, int, int>, double> ended_;
};

}  // namespace

int most_in_flight(const Pipeline& p, int rank) {
  return p.chunks == 1 ? p.ranks - rank : 2 * (p.ranks - rank - 1) + (p.chunks - 1) * p.ranks + 1;
}

std::vector<std::vector<PipelineStep>> pipeline_order(const Pipeline& pipeline) {
  std::vector<std::vector<PipelineStep>> order;
  for (int rank = 0; rank < pipeline.ranks; ++rank) order.push_back(order_of(pipeline, rank));
  return order;
}

PipelineTimes pipeline_times(const Pipeline& pipeline) {
  return {Clock(pipeline).end(), (kForward + kBackward) * pipeline.chunks * pipeline.micro_batches};
}

}  // namespace moiety::train
