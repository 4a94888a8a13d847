#include "train/pipeline_schedule.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace moiety::train {
namespace {

// body(pipeline) for many of them; some of one chunk whose micro-batches are no multiple of the stages.
template <class Body>
void for_pipelines(const Body& body) {
  for (int stages = 1; stages <= 6; ++stages) {
    for (int chunks = 1; chunks <= 4; ++chunks) {
      for (const int micro_batches : {1, 2, 3, 5, 8, 12, 13}) body(PipelineShape{stages, chunks, chunks == 1 ? micro_batches : micro_batches * stages});
    }
  }
}

std::vector<std::vector<PipelineStep>> orders(const PipelineShape& p) {
  std::vector<std::vector<PipelineStep>> orders;
  for (int stage = 0; stage < p.stages; ++stage) orders.push_back(pipeline_order(p, stage));
  return orders;
}

std::string name_of(const PipelineShape& p) { return std::to_string(p.stages) + " " + std::to_string(p.chunks) + " " + std::to_string(p.micro_batches); }

TEST(PipelineSchedule, EveryStageDoesAllItsStepsWithFewInFlight) {
  for_pipelines([](const PipelineShape& p) {
    SCOPED_TRACE(name_of(p));
    const auto order = orders(p);
    ASSERT_EQ(order.size(), static_cast<size_t>(p.stages));
    for (int stage = 0; stage < p.stages; ++stage) {
      std::set<std::tuple<bool, int, int>> seen;
      int in_flight = 0, most = 0;
      for (const PipelineStep& step : order[static_cast<size_t>(stage)]) {
        EXPECT_TRUE(seen.insert({step.is_backward, step.chunk, step.micro_batch}).second);
        EXPECT_TRUE(!step.is_backward || seen.contains({false, step.chunk, step.micro_batch}));
        most = std::max(most, in_flight += step.is_backward ? -1 : 1);
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(2 * p.chunks * p.micro_batches));
      EXPECT_LE(most, most_in_flight(p, stage));
    }
  });
}

// Stages that do their lists blindly, waiting for what a step needs: all come to their ends.
TEST(PipelineSchedule, NobodyWaitsForEver) {
  for_pipelines([](const PipelineShape& p) {
    SCOPED_TRACE(name_of(p));
    const auto order = orders(p);
    std::vector<size_t> next(order.size(), 0);
    std::set<std::tuple<bool, int, int>> done;  // by part
    const auto can = [&](int stage, const PipelineStep& s) {
      const int part = s.chunk * p.stages + stage;
      if (!s.is_backward) return part == 0 || done.contains({false, part - 1, s.micro_batch});
      return part == p.parts() - 1 || done.contains({true, part + 1, s.micro_batch});
    };
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < p.stages; ++stage) {
        size_t& at = next[static_cast<size_t>(stage)];
        while (at < order[static_cast<size_t>(stage)].size() && can(stage, order[static_cast<size_t>(stage)][at])) {
          const PipelineStep& s = order[static_cast<size_t>(stage)][at++];
          done.insert({s.is_backward, s.chunk * p.stages + stage, s.micro_batch});
          moved = true;
        }
      }
    }
    EXPECT_EQ(done.size(), static_cast<size_t>(2 * p.parts() * p.micro_batches));
  });
}

// The bubble of both papers: (stages - 1) forward and backward steps of a part, of which there are `chunks` times as many smaller ones.
TEST(PipelineSchedule, TheBubbleIsThePublishedOne) {
  for (int stages = 2; stages <= 6; ++stages) {
    for (int chunks = 1; chunks <= 4; ++chunks) {
      for (const int rounds : {1, 2, 4}) {
        const PipelineShape p{stages, chunks, rounds * stages};
        const PipelineTimes times = pipeline_times(p);
        EXPECT_DOUBLE_EQ(times.busy, 3.0 * chunks * p.micro_batches) << name_of(p);
        EXPECT_DOUBLE_EQ(times.all - times.busy, 3.0 * (stages - 1)) << name_of(p);
      }
    }
  }
}

TEST(PipelineSchedule, OneStageAlternates) {
  EXPECT_EQ(pipeline_order({1, 1, 2}, 0), (std::vector<PipelineStep>{{false, 0, 0}, {true, 0, 0}, {false, 0, 1}, {true, 0, 1}}));
}

}  // namespace
}  // namespace moiety::train
