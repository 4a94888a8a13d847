#include "train/by_rank.h"

#include <gtest/gtest.h>

namespace moiety::train {
namespace {

// Steps as ranks would sum them, with so much time forward and backward, and rank 1 a third as fast on the way back in some of them.
struct Steps {
  explicit Steps(int ranks) : of_first(0, ranks), ranks(ranks) {}

  std::optional<std::string> add(bool second_is_slow) {
    std::vector<double> sum;
    for (int rank = 0; rank < ranks; ++rank) {
      const double backward = rank == 1 && second_is_slow ? 0.06 : 0.02;
      std::vector<uint64_t> sent(static_cast<size_t>(ranks), 0);
      sent[static_cast<size_t>((rank + 1) % ranks)] = 100;
      std::vector<double> mine = ByRank(rank, ranks).mine(Activity(), backward + 0.01, 7, sent);
      // An activity measures; here the numbers are what we say.
      const size_t fields = mine.size() / static_cast<size_t>(ranks), begin = static_cast<size_t>(rank) * fields;
      mine[begin + 4] = 0.01;
      mine[begin + 5] = backward;
      sum.resize(mine.size());
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += mine[i];
    }
    of_first.add(sum);
    return of_first.news();
  }

  ByRank of_first;
  int ranks;
};

TEST(ByRank, NamesTheSlowRankAndWhatIsSlowWithinTwentySteps) {
  for (const int ranks : {2, 3, 4}) {
    Steps steps(ranks);
    for (int i = 0; i < 30; ++i) EXPECT_FALSE(steps.add(false));
    std::optional<std::string> said;
    int after = 0;
    while (!said && after < 20) {
      said = steps.add(true);
      ++after;
    }
    ASSERT_TRUE(said) << ranks;
    EXPECT_EQ(*said, "rank 1 is slow: a step takes it 0.070 s without waiting, the others 0.030 s; backward takes 3.0 x the others' 0.0200 s");
    for (int i = 0; i < 20; ++i) EXPECT_FALSE(steps.add(true)) << "said once";
    std::optional<std::string> recovered;
    for (int i = 0; i < 20 && !recovered; ++i) recovered = steps.add(false);
    EXPECT_EQ(recovered.value_or(""), "rank 1 is no longer slow");
  }
}

TEST(ByRank, OneSlowStepIsNoSlowRank) {
  Steps steps(3);
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(steps.add(i % 4 == 0));
}

TEST(ByRank, MeansAreByRankAndBytesByReceiver) {
  Steps steps(3);
  steps.add(false);
  steps.add(true);
  const Json means = steps.of_first.take_means();
  EXPECT_DOUBLE_EQ(means["backward"][0], 0.02);
  EXPECT_DOUBLE_EQ(means["backward"][1], 0.04);
  EXPECT_DOUBLE_EQ(means["visits"][2], 7);
  EXPECT_EQ(means["bytes"], Json::parse("[[0.0,100.0,0.0],[0.0,0.0,100.0],[100.0,0.0,0.0]]"));
  EXPECT_EQ(steps.of_first.table().size(), 4u);
  EXPECT_DOUBLE_EQ(steps.of_first.take_means()["seconds"][0], 0);
}

}  // namespace
}  // namespace moiety::train
