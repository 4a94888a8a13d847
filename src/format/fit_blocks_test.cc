#include "format/fit_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "format/blocks.h"
#include "format/elements.h"

namespace moiety::format {
namespace {

using spec::ElementType;

std::vector<float> fitted(ElementType type, std::span<const float> x, std::span<const float> importance = {}) {
  std::vector<std::byte> bytes(spec::bytes_of(type, x.size()));
  fit_blocks(type, x, importance, bytes);
  std::vector<float> back(x.size());
  to_floats(type, bytes, back);
  return back;
}

std::vector<float> rounded(ElementType type, std::span<const float> x) {
  std::vector<std::byte> bytes(spec::bytes_of(type, x.size()));
  from_floats(type, x, bytes);
  std::vector<float> back(x.size());
  to_floats(type, bytes, back);
  return back;
}

// Relative to the numbers' own size.
double error_of(std::span<const float> x, std::span<const float> back, std::span<const float> importance = {}) {
  double off = 0, all = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = importance.empty() ? 1 : importance[i];
    off += w * std::pow(double{x[i]} - back[i], 2);
    all += w * std::pow(double{x[i]}, 2);
  }
  return std::sqrt(off / all);
}

std::vector<float> gaussian(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(count);
  for (float& value : x) value = static_cast<float>(0.02 * random.normal());
  return x;
}

std::vector<ElementType> fitted_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (can_fit(row.type)) types.push_back(row.type);
  }
  return types;
}

// ggml's errors on gaussian numbers, by ggml_quantize_chunk without an importance matrix (ggml_blocks prints them).
TEST(FitBlocks, ErrorsAreNoLargerThanGgmls) {
  const std::vector<float> x = gaussian(1 << 16, 3);
  const struct {
    ElementType type;
    double ggml;
  } rows[] = {{ElementType::Q8_0, 0.00535},  {ElementType::Q4_0, 0.0860},   {ElementType::Q4_1, 0.0782},
              {ElementType::Q5_0, 0.0427},   {ElementType::Q5_1, 0.0378},   {ElementType::Q2_K, 0.2958},
              {ElementType::Q3_K, 0.1509},   {ElementType::Q4_K, 0.0714},   {ElementType::Q5_K, 0.0361},
              {ElementType::Q6_K, 0.01774},  {ElementType::IQ4_NL, 0.0761}, {ElementType::IQ4_XS, 0.0767},
              {ElementType::MXFP4, 0.1153}};
  for (const auto& row : rows) EXPECT_LT(error_of(x, fitted(row.type, x)), row.ggml) << spec::name(row.type);
}

TEST(FitBlocks, AFitIsNoWorseThanSimpleRounding) {
  const std::vector<float> x = gaussian(1 << 14, 5);
  for (const ElementType type : fitted_types()) {
    if (block_encoder(type) == nullptr) continue;
    EXPECT_LT(error_of(x, fitted(type, x)), error_of(x, rounded(type, x))) << spec::name(type);
  }
}

TEST(FitBlocks, WhatIsImportantIsCloser) {
  const std::vector<float> x = gaussian(1 << 14, 7);
  Random random(8);
  std::vector<float> importance(x.size());
  for (float& w : importance) w = static_cast<float>(std::exp(2 * random.normal()));
  for (const ElementType type : fitted_types()) {
    EXPECT_LT(error_of(x, fitted(type, x, importance), importance), error_of(x, fitted(type, x), importance))
        << spec::name(type);
  }
}

TEST(FitBlocks, NumbersThatABlockCanHoldComeBack) {
  Random random(11);
  for (const ElementType type : fitted_types()) {
    // Fitted once, the numbers are those of some block; fitted again, they hardly move.
    const std::vector<float> x = fitted(type, gaussian(1 << 12, 13));
    EXPECT_LT(error_of(x, fitted(type, x)), 0.2 * error_of(gaussian(1 << 12, 13), x)) << spec::name(type);
  }
}

TEST(FitBlocks, AnUnimportantBlockIsFittedAsIfAllOfItWereImportant) {
  const std::vector<float> x = gaussian(256, 17), none(256);
  for (const ElementType type : fitted_types()) EXPECT_EQ(fitted(type, x, none), fitted(type, x)) << spec::name(type);
}

TEST(FitBlocks, ABlockDoesNotDependOnItsNeighbours) {
  const std::vector<float> x = gaussian(512, 19);
  for (const ElementType type : fitted_types()) {
    const size_t n = spec::info(type).block_elements;
    const std::vector<float> all = fitted(type, x);
    const std::vector<float> one = fitted(type, std::span(x).subspan(256, n));
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + 256)) << spec::name(type);
  }
}

TEST(FitBlocks, StrangeNumbersDoNoHarm) {
  for (const ElementType type : fitted_types()) {
    for (const float strange : {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -1e-20f, 0.0f, 7.0f}) {
      std::vector<float> x(256, strange), importance(256, 1.0f);
      for (const float weight : {1.0f, 0.0f, -1.0f, NAN, INFINITY, 1e-40f, 3e38f}) {
        importance[3] = weight;
        for (const float y : fitted(type, x, importance)) EXPECT_FALSE(std::isnan(y)) << spec::name(type) << strange;
      }
      x[5] = 1;
      fitted(type, x, importance);
    }
  }
}

}  // namespace
}  // namespace moiety::format
