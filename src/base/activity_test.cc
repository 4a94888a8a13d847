#include "base/activity.h"

#include <gtest/gtest.h>

#include <thread>

namespace moiety {
namespace {

using std::chrono::milliseconds;

TEST(Activity, SaysWhatItIsIn) {
  Activity activity;
  EXPECT_EQ(activity.now(), "");
  const Activity::Span step(&activity, "step", 12);
  {
    const Activity::Span backward(&activity, "backward");
    EXPECT_EQ(activity.now(), "step 12, backward");
  }
  EXPECT_EQ(activity.now(), "step 12");
  const Activity::Span nowhere(nullptr, "nobody notes this");
}

TEST(Activity, WhatWasWaitedDoesNotCountAsWork) {
  Activity activity;
  activity.begin_count();
  const auto begin = Activity::Clock::now();
  {
    const Activity::Span span(&activity, "forward");
    std::this_thread::sleep_for(milliseconds(30));
    activity.exchanged("sum", 1, 8, begin, begin + milliseconds(20), 0.02);
  }
  const double passed = std::chrono::duration<double>(Activity::Clock::now() - begin).count();
  std::thread([&] { activity.exchanged("sum", 2, 8, begin, begin + milliseconds(20), 0.02); }).join();  // somebody else's wait
  EXPECT_DOUBLE_EQ(activity.waited(), 0.02);
  EXPECT_GE(activity.busy("forward"), 0.0099);
  EXPECT_LE(activity.busy("forward"), passed - 0.02);
  EXPECT_EQ(activity.busy("backward"), 0);
  activity.begin_count();
  EXPECT_EQ(activity.waited(), 0);
  EXPECT_EQ(activity.busy("forward"), 0);
}

TEST(Activity, KeepsAsManyEventsAsAsked) {
  Activity activity;
  { const Activity::Span before(&activity, "before anybody asked"); }
  activity.keep_events(2);
  {
    const Activity::Span outer(&activity, "outer");
    const Activity::Span inner(&activity, "inner");
  }
  { const Activity::Span more(&activity, "too many"); }
  const auto events = activity.take_events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, "inner");
  EXPECT_EQ(events[1].name, "outer");
  EXPECT_LE(events[1].begin, events[0].begin);
  EXPECT_GE(events[1].end, events[0].end);
  EXPECT_TRUE(activity.take_events().empty());
}

}  // namespace
}  // namespace moiety
