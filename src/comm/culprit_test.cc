#include "comm/culprit.h"

#include <gtest/gtest.h>

namespace moiety::comm {
namespace {

Flight flight(int64_t number, const std::string& kind = "sum", uint64_t numbers = 100, bool is_done = false) {
  return {.group = "", .number = number, .kind = kind, .doing = "step 4", .numbers = numbers, .is_done = is_done};
}

Seen seen(int rank, const Flight& newest, bool has_stopped = false) {
  return {.rank = rank, .is_heard = true, .has_stopped = has_stopped, .doing = "step 4, backward", .newest = {newest}};
}

TEST(Culprit, IsWhoNeverCame) {
  Seen late = seen(2, flight(16, "sum", 7, true));
  const auto found = find_culprit(flight(17), {seen(1, flight(17)), late, seen(3, flight(17))}, {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 2);
  EXPECT_EQ(found->deed, "it never came to it; it is at work, last seen in step 4, backward, after exchange 16");
  late.is_silent = true;
  EXPECT_EQ(find_culprit(flight(17), {late}, {})->deed, "it never came to it; it gives no sign any more, last seen in step 4, backward, after exchange 16");
}

TEST(Culprit, IsNotWhoStoppedBecauseOfAnother) {
  Seen dead = seen(1, flight(17));
  dead.is_silent = true;
  const auto found = find_culprit(flight(17), {dead, seen(2, flight(15), true)}, {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 1);
  EXPECT_FALSE(find_culprit(flight(17), {seen(1, flight(17), true), seen(2, flight(15), true)}, {}));
}

TEST(Culprit, IsWhoIsSaidToHaveEndedUnlessItStoppedBecauseOfAnother) {
  const std::vector<Seen> others{seen(1, flight(17)), seen(2, flight(17), true)};
  EXPECT_EQ(find_culprit(flight(17), others, Gone{1, "was ended by signal 9"})->deed,
            "was ended by signal 9; it was last seen in step 4, backward, within exchange 17");
  EXPECT_FALSE(find_culprit(flight(17), others, Gone{2, "ended with status 1"}));
  EXPECT_EQ(find_culprit(flight(17), others, Gone{5, "ended with status 1"})->rank, 5);  // of no part in this exchange
}

TEST(Culprit, IsWhoCallsSomethingElse) {
  EXPECT_EQ(find_culprit(flight(17), {seen(1, flight(17, "sum", 99))}, {})->deed, "makes another call of it: exchange 17 (sum of 99 numbers; step 4)");
  EXPECT_EQ(find_culprit(flight(17), {seen(1, flight(17, "all-gather"))}, {})->rank, 1);
  Flight mine = flight(17, "all-to-all"), theirs = flight(17, "all-to-all", 5);
  mine.is_equal = theirs.is_equal = false;  // whose sizes may differ
  EXPECT_FALSE(find_culprit(mine, {seen(1, theirs)}, {}));
}

TEST(Culprit, OtherGroupsSayNothing) {
  Flight elsewhere = flight(3);
  elsewhere.group = "node0";
  const auto found = find_culprit(flight(2), {seen(1, elsewhere)}, {});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->deed, "it never came to it; it is at work, last seen in step 4, backward");
}

TEST(FlightRecorder, KeepsTheLastAndNumbersByGroup) {
  FlightRecorder recorder(3);
  EXPECT_EQ(recorder.begin({.group = "a", .kind = "sum"}), 1);
  EXPECT_EQ(recorder.begin({.group = "b", .kind = "sum"}), 1);
  for (int64_t number = 2; number < 5; ++number) EXPECT_EQ(recorder.begin({.group = "a", .kind = "sum", .numbers = 10}), number);
  EXPECT_EQ(recorder.last().size(), 3u);
  EXPECT_EQ(recorder.end("a", 2).numbers, 10u);
  EXPECT_FALSE(recorder.oldest_waited_for());  // on their way while something else is done
  for (const int64_t number : {4, 3}) recorder.wait_begins("a", number);
  EXPECT_EQ(recorder.oldest_waited_for()->number, 3);
  EXPECT_FALSE(recorder.end("a", 1).is_done);  // forgotten
  const auto newest = recorder.newest_of_groups();
  ASSERT_EQ(newest.size(), 1u);
  EXPECT_EQ(newest[0].number, 4);
}

}  // namespace
}  // namespace moiety::comm
