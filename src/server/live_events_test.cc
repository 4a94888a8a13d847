#include "server/live_events.h"

#include <gtest/gtest.h>

#include "server/answer_ids.h"

namespace moiety::server {
namespace {

TEST(HeatMap, IsTheRootOfTheShareOfTheBusiest) {
  // 255 * sqrt of 1, 1/4, 1/100 and 0 is 255, 127.5, 25.5 and 0.
  EXPECT_EQ(heat_map({{100, 25}, {}, {1, 0}}), "/4AaAA==");
  EXPECT_EQ(heat_map({{0, 0, 0}}), "AAAA");
  EXPECT_EQ(heat_map({}), "");
  EXPECT_EQ(heat_map({{}, {}}), "");
}

TEST(FiguresEvent, CountsWhatHappenedInBetween) {
  engine::EngineStatistics before, now;
  before.expert_hits = 100;
  now.expert_hits = 150;
  before.expert_bytes_read = 7;
  now.expert_bytes_read = 7;
  now.running = 3;
  const Json event = figures_event(before, now, 0.5, {.resident = 10, .budget = 20});
  EXPECT_EQ(event["hits"], 100.0);
  EXPECT_EQ(event["misses"], 0.0);
  EXPECT_EQ(event["bytes_read"], 0.0);
  EXPECT_EQ(event["running"], 3);
  EXPECT_EQ(event["memory"], 10);
  EXPECT_EQ(event["memory_budget"], 20);
  EXPECT_EQ(figures_event(before, now, 0, {})["hits"], 0.0);
}

TEST(ModelEvent, NamesTheLayersWithExperts) {
  spec::ModelSpec spec;
  spec.feed_forward = {spec::FeedForward::Dense, spec::FeedForward::Moe, spec::FeedForward::Moe};
  spec.moe.router.num_experts = 8;
  spec.moe.router.experts_per_token = 2;
  EXPECT_EQ(model_event(spec, 64), (Json{{"layers", {1, 2}}, {"experts", 8}, {"experts_per_token", 2}, {"context", 64}}));
  spec.feed_forward = {spec::FeedForward::Dense};
  EXPECT_EQ(model_event(spec, 64)["experts"], 0);
}

TEST(AnswerIds, KeepsTheLatest) {
  AnswerIds ids;
  ids.add("a", 1);
  ids.add("a", 2);
  EXPECT_EQ(ids.find("a"), (std::vector<uint64_t>{1, 2}));
  EXPECT_TRUE(ids.find("b").empty());
  for (uint64_t id = 0; id < 1000; ++id) ids.add("r" + std::to_string(id), id);
  EXPECT_TRUE(ids.find("a").empty());
  EXPECT_EQ(ids.find("r999"), (std::vector<uint64_t>{999}));
}

}  // namespace
}  // namespace moiety::server
