#include "train/pipeline_schedule.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace moiety::train {
namespace {

// body(pipeline) for many of them; some of one chunk whose micro-batches are no multiple of the ranks.
template <class Body>
void for_pipelines(const Body& body) {
  for (int ranks = 1; ranks <= 6; ++ranks) {
    for (int chunks = 1; chunks <= 4; ++chunks) {
      for (const int micro_batches : {1, 2, 3, 5, 8, 12, 13}) body(Pipeline{ranks, chunks, chunks == 1 ? micro_batches : micro_batches * ranks});
    }
  }
}

std::string name_of(const Pipeline& p) { return std::to_string(p.ranks) + " " + std::to_string(p.chunks) + " " + std::to_string(p.micro_batches); }

TEST(PipelineSchedule, EveryRankDoesAllItsStepsWithFewInFlight) {
  for_pipelines([](const Pipeline& p) {
    SCOPED_TRACE(name_of(p));
    const auto order = pipeline_order(p);
    ASSERT_EQ(order.size(), static_cast<size_t>(p.ranks));
    for (int rank = 0; rank < p.ranks; ++rank) {
      std::set<std::tuple<bool, int, int>> seen;
      int in_flight = 0, most = 0;
      for (const PipelineStep& step : order[static_cast<size_t>(rank)]) {
        EXPECT_TRUE(seen.insert({step.is_backward, step.chunk, step.micro_batch}).second);
        if (step.is_backward) EXPECT_TRUE(seen.contains({false, step.chunk, step.micro_batch}));
        most = std::max(most, in_flight += step.is_backward ? -1 : 1);
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(2 * p.chunks * p.micro_batches));
      EXPECT_LE(most, most_in_flight(p, rank));
    }
  });
}

// Ranks that do their lists blindly, waiting for what a step needs: all come to their ends.
TEST(PipelineSchedule, NobodyWaitsForEver) {
  for_pipelines([](const Pipeline& p) {
    SCOPED_TRACE(name_of(p));
    const auto order = pipeline_order(p);
    std::vector<size_t> next(order.size(), 0);
    std::set<std::tuple<bool, int, int>> done;  // by stage
    const auto can = [&](int rank, const PipelineStep& s) {
      const int stage = s.chunk * p.ranks + rank;
      if (!s.is_backward) return stage == 0 || done.contains({false, stage - 1, s.micro_batch});
      return stage == p.stages() - 1 || done.contains({true, stage + 1, s.micro_batch});
    };
    for (bool moved = true; moved;) {
      moved = false;
      for (int rank = 0; rank < p.ranks; ++rank) {
        size_t& at = next[static_cast<size_t>(rank)];
        while (at < order[static_cast<size_t>(rank)].size() && can(rank, order[static_cast<size_t>(rank)][at])) {
          const PipelineStep& s = order[static_cast<size_t>(rank)][at++];
          done.insert({s.is_backward, s.chunk * p.ranks + rank, s.micro_batch});
          moved = true;
        }
      }
    }
    EXPECT_EQ(done.size(), static_cast<size_t>(2 * p.stages() * p.micro_batches));
  });
}

// The bubble of both papers: (ranks - 1) forward and backward steps of a stage, of which there are `chunks` times as many smaller ones.
TEST(PipelineSchedule, TheBubbleIsThePublishedOne) {
  for (int ranks = 2; ranks <= 6; ++ranks) {
    for (int chunks = 1; chunks <= 4; ++chunks) {
      for (const int rounds : {1, 2, 4}) {
        const Pipeline p{ranks, chunks, rounds * ranks};
        const PipelineTimes times = pipeline_times(p);
        EXPECT_DOUBLE_EQ(times.busy, 3.0 * chunks * p.micro_batches) << name_of(p);
        EXPECT_DOUBLE_EQ(times.all - times.busy, 3.0 * (ranks - 1)) << name_of(p);
      }
    }
  }
}

TEST(PipelineSchedule, OneRankAlternates) {
  EXPECT_EQ(pipeline_order({1, 1, 2})[0], (std::vector<PipelineStep>{{false, 0, 0}, {true, 0, 0}, {false, 0, 1}, {true, 0, 1}}));
}

}  // namespace
}  // namespace moiety::train
