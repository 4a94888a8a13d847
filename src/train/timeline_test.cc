#include "train/timeline.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace moiety::train {
namespace {

using std::chrono::microseconds;

TEST(Timeline, ExchangesThatOverlapAreOnDifferentTracks) {
  const Activity::Clock::time_point begin{};
  const auto exchange = [&](int64_t number, int from, int to) {
    return Activity::Event{"sum", begin + microseconds(from), begin + microseconds(to), true, number, 8};
  };
  const std::vector<Activity::Event> events{{"forward", begin + microseconds(5), begin + microseconds(50)}, exchange(1, 10, 40), exchange(2, 20, 30),
                                            exchange(3, 40, 45)};
  const Json list = Json::parse("[" + trace_events(3, events, begin) + "]");
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0], Json::parse(R"({"name": "forward", "ph": "X", "pid": 3, "tid": 0, "ts": 5.0, "dur": 45.0})"));
  EXPECT_EQ(list[1]["tid"], 1);
  EXPECT_EQ(list[2]["tid"], 2);
  EXPECT_EQ(list[3]["tid"], 1);
  EXPECT_EQ(list[3]["args"], Json::parse(R"({"number": 3, "bytes": 8})"));
}

TEST(Timeline, OfOneProcessIsAFileThatParses) {
  const fs::path file = fs::path(testing::TempDir()) / "timeline_test.json";
  fs::remove(file);
  Activity activity;
  Timeline timeline(file, 2, activity, nullptr);
  for (int step = 1; step <= 5; ++step) {
    { const Activity::Span span(&activity, "step \"quoted\"", step); }
    timeline.step_ended();
  }
  const Json json = parse_json(read_file(file), file.string());
  int steps = 0;
  for (const Json& event : json["traceEvents"]) steps += event["ph"] == "X";
  EXPECT_EQ(steps, 2);
  fs::remove(file);
}

}  // namespace
}  // namespace moiety::train
