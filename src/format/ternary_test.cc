#include "format/ternary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"

namespace moiety::format {
namespace {

TEST(Ternary, ElementsBeyondHalfTheMeanSizeBecomeTheMeanSize) {
  const std::vector<float> w{2, -2, 0.75f, -0.75f, 0.25f, -0.25f};  // 1 on average
  std::vector<float> out(w.size());
  ternarise(w, out);
  EXPECT_EQ(out, (std::vector<float>{1, -1, 1, -1, 0, 0}));
}

TEST(Ternary, ThreeLevelsThatBf16Holds) {
  Random random(5);
  std::vector<float> w(1000), out(w.size());
  for (float& x : w) x = static_cast<float>(0.037 * random.normal());
  ternarise(w, out);
  EXPECT_EQ(std::set<float>(out.begin(), out.end()).size(), 3u);
  double sum = 0;
  for (const float x : w) sum += std::abs(x);
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(bf16_to_float(float_to_bf16(out[i])), out[i]);
    const double size = out[i] == 0 ? 0 : std::copysign(sum / 1000, w[i]);
    EXPECT_NEAR(out[i], size, 0.004 * sum / 1000);
  }
}

TEST(Ternary, NothingIsNothing) {
  std::vector<float> out{5, 5};
  ternarise(std::vector<float>{0, 0}, out);
  EXPECT_EQ(out, (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace moiety::format
