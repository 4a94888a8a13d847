#include "store/read_ahead.h"

#include <gtest/gtest.h>

namespace moiety::store {
namespace {

ReadAhead after(double precision, double idle_seconds) {
  ReadAhead ahead;
  ahead.learn_read(0.01);
  for (int i = 0; i < 400; ++i) ahead.learn(1, 10, static_cast<size_t>(10 * precision), idle_seconds);
  return ahead;
}

TEST(ReadAhead, ReadsAsMuchAsTheDiskHasTimeForIfItIsMostlyRight) {
  EXPECT_EQ(after(0.9, 0.035).limit(1), 4u);
  EXPECT_EQ(after(1, 0.001).limit(1), 1u);
  EXPECT_EQ(after(0.4, 0.035).limit(1), 3u);  // the fourth would more likely keep the disk from others
}

TEST(ReadAhead, DoesNotPayWhereTheDiskIsBusyAnyway) {
  EXPECT_EQ(after(0.8, 0.0).limit(1), 0u);
  EXPECT_EQ(after(0.8, 0.001).limit(1), 0u);
  EXPECT_EQ(after(0.2, 0.1).limit(1), 0u);
}

TEST(ReadAhead, PromptsAndSingleTokensAreLearntApart) {
  ReadAhead ahead = after(0.1, 0.001);
  for (int i = 0; i < 400; ++i) ahead.learn(512, 10, 10, 0.1);
  EXPECT_EQ(ahead.limit(1), 0u);
  EXPECT_EQ(ahead.limit(600), 10u);
  EXPECT_EQ(ahead.limit(64), 0u);
}

}  // namespace
}  // namespace moiety::store
