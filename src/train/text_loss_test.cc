#include "train/text_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/rank_threads.h"

namespace moiety::train {
namespace {

// Two documents and a filled end.
Batch batch_of_three() {
  return {.tokens_T = {1, 2, 3, 4, 5, 0}, .targets_T = {2, 3, 4, 5, 0, -1},
          .segments = {{.begin = 0, .length = 2, .domain = 1, .at = 100}, {.begin = 2, .length = 3, .domain = 0, .at = 40}, {.begin = 5, .length = 1}}};
}

TEST(TextLoss, IsOfEachStretchOfADocument) {
  std::vector<TextLoss> losses;
  const std::vector<float> nats_T{1, 2, 3, 4, 5, 0};
  add_text_losses(batch_of_three(), nats_T, losses);
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0].domain, 1);
  EXPECT_EQ(losses[0].at, 100);
  EXPECT_EQ(losses[0].nats, 3);
  EXPECT_EQ(losses[1].at, 40);
  EXPECT_EQ(losses[1].tokens, 3);
  EXPECT_EQ(losses[1].nats, 12);
  add_text_losses(batch_of_three(), {}, losses);  // of a stage without the loss
  EXPECT_EQ(losses.size(), 2u);
}

// Parts of a batch, as ranks have them, know where they are.
TEST(TextLoss, PartsOfABatchKeepTheirPlace) {
  const Batch part = batch_of_three().tokens(3, 3);
  ASSERT_EQ(part.segments.size(), 2u);
  EXPECT_EQ(part.segments[0].at, 41);
  EXPECT_EQ(part.segments[1].at, -1);
}

TEST(TextLoss, TheWorstHasCostMostBeyondTheMean) {
  // A short one is dear by the token, but it is the long one that makes the loss
  const std::vector<TextLoss> losses{{0, 10, 100, 300}, {1, 20, 2, 16}, {0, 30, 50, 350}};
  EXPECT_EQ(worst_text(losses, nullptr)->at, 30);
  std::vector<TextLoss> with_nan = losses;
  with_nan.insert(with_nan.begin(), {1, 5, 3, std::nan("")});
  EXPECT_EQ(worst_text(with_nan, nullptr)->at, 5);
  EXPECT_EQ(worst_text({}, nullptr), std::nullopt);
}

TEST(TextLoss, AllRanksNameTheWorstOfAll) {
  test::on_ranks(3, [](comm::Group& group) {
    std::vector<TextLoss> mine;  // nothing on the first
    if (group.rank() == 1) mine = {{0, 10, 100, 300}, {0, 30, 50, 350}};
    if (group.rank() == 2) mine = {{1, 70, 100, 310}};
    EXPECT_EQ(worst_text(mine, &group)->at, 30);
    if (group.rank() == 2) mine.push_back({1, 80, 1, std::numeric_limits<double>::infinity()});
    const auto worst = worst_text(mine, &group);
    EXPECT_EQ(worst->at, 80);
    EXPECT_EQ(worst->domain, 1);
    EXPECT_EQ(worst_text({}, &group), std::nullopt);
  });
}

}  // namespace
}  // namespace moiety::train
