#include "kernel/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"

namespace moiety::kernel {
namespace {

using spec::ElementType;

std::vector<float> random_floats(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& value : x) value = static_cast<float>(random.normal());
  return x;
}

// A matrix of random bits that are finite numbers of the type, its rows a gap apart if `gap` is not 0, its scales in blocks
// of 2 rows and 32 columns.
struct Weights {
  WeightView view;
  std::vector<std::byte> bytes, scales;

  Weights(ElementType type, size_t rows, size_t cols, uint64_t seed, size_t gap = 0) {
    view = {type, nullptr, rows, cols, gap == 0 ? 0 : spec::bytes_of(type, cols) + gap};
    const auto& block = spec::info(type);
    const size_t row_bytes = spec::bytes_of(type, cols);
    Random random(seed);
    bytes.resize(rows * (row_bytes + gap));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    for (size_t r = 0; r < rows; ++r) {
      for (size_t b = 0; b < cols / block.block_elements; ++b) {
        make_finite(type, &bytes[r * (row_bytes + gap) + b * block.block_bytes], random);
      }
    }
    view.data = bytes.data();
    if (block.has_scales) add_scales(random);
  }

 private:
  static void make_finite(ElementType type, std::byte* block, Random& random) {
    const auto store_float = [&](size_t at, double scale) {
      const float x = static_cast<float>(random.normal() * scale);
      const uint16_t half = type == ElementType::BF16 ? float_to_bf16(x) : float_to_half(x);
      if (type == ElementType::F32) {
        std::memcpy(block + at, &x, 4);
      } else {
        std::memcpy(block + at, &half, 2);
      }
    };
    switch (type) {
      case ElementType::F32:
      case ElementType::F16:
      case ElementType::BF16:
        return store_float(0, 1);
      case ElementType::Q8_0:
        return store_float(0, 0.01);
      case ElementType::Q4_0:
      case ElementType::Q5_0:
        return store_float(0, 0.1);
      case ElementType::Q4_1:
      case ElementType::Q5_1:
        return store_float(0, 0.1), store_float(2, 1);
      case ElementType::Q2_K:
        return store_float(80, 0.05), store_float(82, 0.05);
      case ElementType::Q3_K:
        return store_float(108, 0.01);
      case ElementType::IQ4_NL:
        return store_float(0, 0.01);
      case ElementType::IQ4_XS:
        return store_float(0, 0.0005);
      case ElementType::Q4_K:
      case ElementType::Q5_K:
        return store_float(0, 0.002), store_float(2, 0.01);
      case ElementType::Q6_K:
        return store_float(208, 0.0005);
      case ElementType::MXFP4:
        *block = static_cast<std::byte>(123 + random.below(4));
        return;
      case ElementType::F8_E4M3:  // below 2 and no NaN
        *block &= std::byte{0xbf};
        return;
      default:
        return;
    }
  }

  void add_scales(Random& random) {
    const bool is_f8 = view.type == ElementType::F8_E4M3;
    const size_t grid_rows = (view.rows + 1) / 2, grid_cols = (view.cols + 31) / 32;
    for (size_t i = 0; i < grid_rows * grid_cols; ++i) {
      const float scale = static_cast<float>(random.normal());
      const auto power = static_cast<std::byte>(123 + random.below(4));
      const auto one = is_f8 ? std::as_bytes(std::span(&scale, 1)) : std::span(&power, 1);
      scales.insert(scales.end(), one.begin(), one.end());
    }
    view.scales = {scales.data(), grid_cols * (is_f8 ? 4 : 1), 2, 32};
  }
};

// Element k of a row, as the scalar kernels read it.
float element(const WeightView& w, size_t row, size_t k) {
  std::vector<float> one_hot(w.cols);
  one_hot[k] = 1;
  float value;
  scalar_kernels().linear(one_hot.data(), w.cols, 1, w, row, 1, &value, 1);
  return value;
}

class EveryKernel : public testing::TestWithParam<std::tuple<const Kernels*, ElementType>> {};

TEST_P(EveryKernel, LinearEqualsTheSumInDouble) {
  const auto [kernels, type] = GetParam();
  for (const size_t cols : {32u, 64u, 96u, 7u, 17u, 250u, 256u, 512u}) {
    if (cols % spec::info(type).block_elements != 0) continue;
    const size_t most_rows = 13, most_tokens = 11;
    const Weights weights(type, most_rows + 3, cols, cols, cols % 64 == 0 ? 5 : 0);
    const auto x = random_floats(most_tokens * cols, cols + 1);
    std::vector<double> exact(most_tokens * most_rows), magnitude(most_tokens * most_rows);
    for (size_t r = 0; r < most_rows; ++r) {
      for (size_t k = 0; k < cols; ++k) {
        const double w = element(weights.view, r + 3, k);
        for (size_t t = 0; t < most_tokens; ++t) {
          exact[t * most_rows + r] += w * x[t * cols + k];
          magnitude[t * most_rows + r] += std::abs(w * x[t * cols + k]);
        }
      }
    }
    for (const size_t rows : {1u, 2u, 5u, 13u}) {
      for (const size_t tokens : {1u, 2u, 3u, 6u, 7u, 11u}) {
        std::vector<float> y(tokens * rows, NAN);
        kernels->linear(x.data(), cols, tokens, weights.view, 3, rows, y.data(), rows);
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t r = 0; r < rows; ++r) {
            const size_t i = t * most_rows + r;
            EXPECT_NEAR(y[t * rows + r], exact[i], 1e-6 * magnitude[i])
                << kernels->name << " cols " << cols << " rows " << rows << " tokens " << tokens;
          }
        }
      }
    }
  }
}

TEST_P(EveryKernel, ElementsAreTheScalarOnes) {
  const auto [kernels, type] = GetParam();
  const size_t cols = spec::info(type).block_elements == 1 ? 39 : 512;
  const Weights weights(type, 3, cols, 7, 2);
  for (size_t k = 0; k < cols; ++k) {
    std::vector<float> one_hot(cols);
    one_hot[k] = 1;
    float y[3];
    kernels->linear(one_hot.data(), cols, 1, weights.view, 0, 3, y, 3);
    for (size_t r = 0; r < 3; ++r) ASSERT_EQ(y[r], element(weights.view, r, k)) << r << " " << k;
  }
}

TEST_P(EveryKernel, AResultDoesNotDependOnHowTheWorkWasCutUp) {
  const auto [kernels, type] = GetParam();
  const size_t cols = spec::info(type).block_elements == 1 ? 101 : 256, rows = 23, tokens = 17;
  const auto x = random_floats(tokens * cols, 1);
  const Weights weights(type, rows, cols, 2);
  std::vector<float> whole(tokens * rows), one_by_one(tokens * rows);
  kernels->linear(x.data(), cols, tokens, weights.view, 0, rows, whole.data(), rows);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < rows; ++r) {
      kernels->linear(&x[t * cols], cols, 1, weights.view, r, 1, &one_by_one[t * rows + r], rows);
    }
  }
  EXPECT_EQ(whole, one_by_one);
}

TEST_P(EveryKernel, EveryByteOfE4M3IsItsNumber) {
  const auto [kernels, type] = GetParam();
  if (type != ElementType::F8_E4M3) return;
  for (int byte = 0; byte < 256; ++byte) {
    const std::vector<std::byte> bytes(16, static_cast<std::byte>(byte));
    std::vector<float> one_hot(16);
    one_hot[0] = 1;
    float y;
    kernels->linear(one_hot.data(), 16, 1, {type, bytes.data(), 1, 16}, 0, 1, &y, 1);
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    if ((byte & 127) == 127) {
      EXPECT_TRUE(std::isnan(y)) << byte;
    } else {
      EXPECT_EQ(y, byte & 128 ? -magnitude : magnitude) << byte;
    }
  }
}

TEST_P(EveryKernel, DotAndAddScaledMatchPlainLoops) {
  const Kernels* kernels = std::get<0>(GetParam());
  for (const size_t n : {1u, 8u, 15u, 16u, 33u, 128u}) {
    const auto a = random_floats(n, n), b = random_floats(n, n + 1);
    double sum = 0;
    for (size_t k = 0; k < n; ++k) sum += double{a[k]} * b[k];
    EXPECT_NEAR(kernels->dot(a.data(), b.data(), n), sum, 1e-5 * n);
    std::vector<float> y = b;
    kernels->add_scaled(0.3f, a.data(), y.data(), n);
    for (size_t k = 0; k < n; ++k) EXPECT_NEAR(y[k], b[k] + 0.3f * a[k], 1e-6);
  }
}

std::vector<ElementType> weight_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (row.is_weight) types.push_back(row.type);
  }
  return types;
}
std::string name_of(const testing::TestParamInfo<EveryKernel::ParamType>& info) {
  return std::string(std::get<0>(info.param)->name) + "_" + std::string(spec::name(std::get<1>(info.param)));
}
INSTANTIATE_TEST_SUITE_P(Kernels, EveryKernel,
                         testing::Combine(testing::ValuesIn(available_kernels().begin(), available_kernels().end()),
                                          testing::ValuesIn(weight_types())),
                         name_of);

TEST(Kernels, TheScalarTableIsAlwaysThere) {
  EXPECT_EQ(available_kernels().back(), &scalar_kernels());
  EXPECT_EQ(find_kernels("scalar"), &scalar_kernels());
  EXPECT_EQ(find_kernels("abacus"), nullptr);
}

}  // namespace
}  // namespace moiety::kernel
