#include "train/step_law.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace moiety::train {
namespace {

// By logarithms to the base ten, on paper: log lr = 0.25285 - 0.713 * 9 + 0.307 * 11, log batch = -0.23657 + 0.571 * 11.
TEST(StepLaw, AGigaParameterModelOnAHundredGigaTokens) {
  const HyperParameters best = step_law(1e9, 1e11);
  EXPECT_NEAR(best.lr, 1.632e-3, 2e-6);
  EXPECT_NEAR(best.batch_tokens, 1.108e6, 2e3);
}

RC_GTEST_PROP(StepLaw, LargerModelsWantLessAndMoreTextWantsMore, ()) {
  const auto parameters = static_cast<double>(*rc::gen::inRange<int64_t>(1'000, 1'000'000'000));
  const auto tokens = static_cast<double>(*rc::gen::inRange<int64_t>(1'000, 1'000'000'000'000));
  const HyperParameters here = step_law(parameters, tokens), larger = step_law(2 * parameters, tokens), longer = step_law(parameters, 2 * tokens);
  RC_ASSERT(larger.lr < here.lr && longer.lr > here.lr);
  RC_ASSERT(larger.batch_tokens == here.batch_tokens && longer.batch_tokens > here.batch_tokens);
}

RC_GTEST_PROP(StepLaw, TheBatchOfSoManyStepsIsTheLawsForTheirTokens, ()) {
  const auto steps = static_cast<double>(*rc::gen::inRange<int64_t>(1, 1'000'000));
  const double batch = step_law_batch(steps);
  RC_ASSERT(std::abs(step_law(1, steps * batch).batch_tokens / batch - 1) < 1e-9);
}

}  // namespace
}  // namespace moiety::train
